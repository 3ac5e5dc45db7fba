package boxlite_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
)

// remoteVar, if set, runs the same tests through a server.
const remoteVar = "BOXLITE_TEST_REMOTE"

func onServer() bool { return os.Getenv(remoteVar) != "" }

// hereOnly skips a test whose promise is about this host, and says why.
func hereOnly(t *testing.T, why string) {
	t.Helper()
	if onServer() {
		t.Skip("needs a runtime of this host: " + why)
	}
}

// serve serves a runtime on a unix socket until the test ends, and returns its
// URL.
func serve(t *testing.T, rt *boxlite.Runtime) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "boxlite") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	socket := filepath.Join(dir, "s")
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: socket, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := restapi.New(restapi.Config{Runtime: rt, Logger: log})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := httpapi.Serve(ctx, srv, ls, 10*time.Second, log, srv.Drain); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		srv.Close()
		os.RemoveAll(dir)
	})
	return "unix://" + socket
}

// connect serves a runtime and returns one that asks the server.
func connect(t *testing.T, rt *boxlite.Runtime) *boxlite.Runtime {
	t.Helper()
	c, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: serve(t, rt)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}

// TestConnectRefuses: what is no server of ours is told from one that does not
// answer, and the key is in no text.
func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"extensions":["details"]}`)
	}))
	defer other.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	const key = "a-key-0123456789"
	for _, tt := range []struct {
		name string
		r    boxlite.Remote
		want error
		text string
	}{
		{"nobody there", boxlite.Remote{URL: gone.URL, Key: key}, boxlite.ErrUnreachable, gone.URL},
		{"a server of BoxLite", boxlite.Remote{URL: other.URL, Key: key}, boxlite.ErrUnsupported, `extension "lease"`},
		{"no URL", boxlite.Remote{URL: "boxes", Key: key}, boxlite.ErrInvalid, "give http://"},
		{"in the clear", boxlite.Remote{URL: "http://boxes.example.com", Key: key}, boxlite.ErrInvalid, "use https"},
	} {
		_, err := boxlite.Connect(t.Context(), tt.r)
		if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) || strings.Contains(err.Error(), key) {
			t.Errorf("%s: got %v, want %v with %q and without the key", tt.name, err, tt.want, tt.text)
		}
		if s := fmt.Sprintf("%v %+v %#v %s %q", tt.r, tt.r, tt.r, tt.r, tt.r); strings.Contains(s, key) {
			t.Errorf("%s: the key shows: %s", tt.name, s)
		}
	}
}

// TestConnectLetsGo: who is refused keeps no connection.
func TestConnectLetsGo(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{}, 10)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- struct{}{}
		}
	}
	srv.Start()
	defer srv.Close()
	if _, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: srv.URL}); !errors.Is(err, boxlite.ErrUnsupported) {
		t.Fatalf("got %v, want ErrUnsupported", err)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second): // idle ones are closed after a minute
		t.Error("the connection is kept")
	}
}

// TestKeysOfServers: a key that is not known, and one that may not do this.
func TestKeysOfServers(t *testing.T) {
	t.Parallel()
	rt, err := boxlite.Open(t.Context(), boxlite.Config{Home: t.TempDir(), Engine: enginetest.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("looker look-key-0123456789 me:read,box:read\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keys := &httpapi.Keys{}
	if err := keys.Load("", file); err != nil {
		t.Fatal(err)
	}
	srv := restapi.New(restapi.Config{Runtime: rt, Keys: keys})
	defer srv.Close()
	s := httptest.NewServer(srv)
	defer s.Close()
	as := func(key string) *boxlite.Runtime {
		c, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: s.URL, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	if _, err := as("wrong-key-0123456789").Whoami(t.Context()); !errors.Is(err, boxlite.ErrUnauthorized) {
		t.Errorf("a key that is not known: got %v, want ErrUnauthorized", err)
	}
	c := as("look-key-0123456789")
	if who, err := c.Whoami(t.Context()); err != nil || who.Name != "looker" || len(who.Scopes) != 2 {
		t.Errorf("whoami: got %+v, %v", who, err)
	}
	if _, err := c.Boxes(t.Context()); err != nil {
		t.Errorf("what the key may do: %v", err)
	}
	if _, err := c.Create(t.Context(), boxlite.BoxOptions{}); !errors.Is(err, boxlite.ErrUnauthorized) || !strings.Contains(err.Error(), "box:write") {
		t.Errorf("what it may not do: got %v, want ErrUnauthorized that names the scope", err)
	}
}

// TestBrokenConnection: when the way to the server breaks under a command, Wait
// says so and names the execution, which goes on; it is found there again.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Detach: true, Name: "far"})
	sh(t, b, "true")
	here, err := boxlite.Open(t.Context(), boxlite.Config{Home: home(t, rt), Engine: testEngine()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { here.Close() })
	wire := newWire(t, strings.TrimPrefix(serve(t, here), "unix://"))
	far, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: "unix://" + wire.path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	theirs, err := far.Box(t.Context(), "far")
	if err != nil {
		t.Fatal(err)
	}
	c := theirs.Command(t.Context(), "sh", "-c", "echo begun; read x; echo after; sleep 1000")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	wire.cut()
	if err := c.Wait(); !errors.Is(err, boxlite.ErrUnreachable) || !strings.Contains(err.Error(), c.ID()) {
		t.Errorf("Wait: got %v, want ErrUnreachable that names execution %s", err, c.ID())
	}
	in.Close()
	again := theirs.Attach(t.Context(), c.ID())
	again.Stdin = strings.NewReader("on\n")
	if out, err = again.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("begun\nafter\n"))
	if _, err := io.ReadFull(out, got); err != nil || string(got) != "begun\nafter\n" {
		t.Errorf("attached again: got %q, %v", got, err)
	}
	if err := again.Kill(); err != nil {
		t.Error(err)
	}
	if err := again.Wait(); err == nil {
		t.Error("killed: got nil")
	}
}

// wire is a socket that leads to another one, until it is cut.
type wire struct {
	path string
	mu   sync.Mutex
	open []net.Conn
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	dir, err := os.MkdirTemp("", "boxlite")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{path: filepath.Join(dir, "w")}
	ln, err := net.Listen("unix", w.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the listener
		for {
			a, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("unix", to)
			if err != nil {
				a.Close()
				continue
			}
			w.mu.Lock()
			w.open = append(w.open, a, b)
			w.mu.Unlock()
			for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
				wg.Go(func() { _, _ = io.Copy(way[0], way[1]); a.Close(); b.Close() })
			}
		}
	})
	t.Cleanup(func() { ln.Close(); w.cut(); wg.Wait(); os.RemoveAll(dir) })
	return w
}

// cut breaks what is open. What is begun afterwards goes through again.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.open {
		c.Close()
	}
	w.open = nil
}
