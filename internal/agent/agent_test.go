package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

func TestMain(m *testing.M) { os.Exit(enginetest.CheckLeaks(m)) }

// machine starts the real agent on the host.
func machine(t testing.TB) engine.Machine {
	t.Helper()
	m, err := enginetest.Fake().Start(t.Context(), engine.Spec{
		ID: "test", Dir: t.TempDir(), Disk: t.TempDir(), DiskSize: 1 << 30, CPUs: 1, Memory: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		m.Stop(ctx)
		if err := m.Err(); err != nil {
			t.Errorf("agent: %v", err)
		}
	})
	return m
}

func dial(t testing.TB, m engine.Machine) net.Conn {
	t.Helper()
	c, err := m.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// answer says some frames to the agent and returns its error.
func answer(t testing.TB, m engine.Machine, say func(w *wire.Conn)) *guest.Error {
	t.Helper()
	w := wire.NewConn(dial(t, m))
	say(w)
	for {
		typ, _, err := w.Next()
		if err != nil {
			t.Fatalf("the agent hangs up without an error: %v", err)
		}
		if typ != wire.Error {
			continue
		}
		var e guest.Error
		if err := w.JSON(&e); err != nil {
			t.Fatal(err)
		}
		return &e
	}
}

func TestOtherProtocolIsRefusedWithBothNumbers(t *testing.T) {
	e := answer(t, machine(t), func(w *wire.Conn) { w.WriteJSON(wire.Hello, guest.Hello{Proto: 42}) })
	if e.Kind != guest.KindInvalid || !strings.Contains(e.Message, "42") || !strings.Contains(e.Message, fmt.Sprint(guest.Version)) {
		t.Errorf("host of protocol 42: got %+v, want both numbers", e)
	}
}

func TestMalformedRequestsAreRefused(t *testing.T) {
	m := machine(t)
	hello := func(w *wire.Conn) { w.WriteJSON(wire.Hello, guest.Hello{Proto: guest.Version}) }
	for name, say := range map[string]func(w *wire.Conn){
		"no hello":          func(w *wire.Conn) { w.WriteJSON(wire.Request, guest.Request{Op: guest.OpPing}) },
		"no request":        func(w *wire.Conn) { hello(w); w.Write(wire.Stdin, []byte("x")) },
		"unknown operation": func(w *wire.Conn) { hello(w); w.Write(wire.Request, []byte(`{"op":"x"}`)) },
		"unknown field":     func(w *wire.Conn) { hello(w); w.Write(wire.Request, []byte(`{"op":"ping","x":1}`)) },
		"two values":        func(w *wire.Conn) { hello(w); w.Write(wire.Request, []byte(`{"op":"ping"}{}`)) },
		"relative path": func(w *wire.Conn) {
			hello(w)
			w.WriteJSON(wire.Request, guest.Request{Op: guest.OpStat, Path: []byte("x")})
		},
		"control characters": func(w *wire.Conn) { hello(w); w.Write(wire.Request, []byte(`{"op":"\u001b"}`)) },
		"wrong frame in data": func(w *wire.Conn) {
			hello(w)
			w.WriteJSON(wire.Request, guest.Request{Op: guest.OpWriteFile, Path: []byte("/x")})
			w.Write(wire.Stdout, []byte("x"))
		},
	} {
		if e := answer(t, m, say); e.Kind != guest.KindInvalid || e.Message == "" {
			t.Errorf("%s: got %+v, want it invalid", name, e)
		}
	}
}

// TestGarbageHarmsNobody sends streams of random bytes, and of random frames
// after a good start, while others work.
func TestGarbageHarmsNobody(t *testing.T) {
	m := machine(t)
	c := guest.NewClient(m.Dial)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		conn := dial(t, m)
		w := wire.NewConn(conn)
		junk := make([]byte, r.IntN(4096))
		for j := range junk {
			junk[j] = byte(r.Uint32())
		}
		if i%2 == 0 {
			w.WriteJSON(wire.Hello, guest.Hello{Proto: guest.Version})
			w.WriteJSON(wire.Request, guest.Request{Op: guest.OpStart, Command: &guest.Command{Args: []string{"cat"}, Stdin: true}})
			w.Write(wire.Type(1+r.IntN(12)), junk)
		}
		conn.Write(junk)
		if i%3 == 0 {
			io.CopyN(io.Discard, conn, int64(r.IntN(100)))
		}
		conn.Close()
	}
	all, err := c.Executions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		err := c.Kill(t.Context(), e.ID)
		if gone := (*guest.Error)(nil); err != nil && (!errors.As(err, &gone) || gone.Kind != guest.KindNoExecution) {
			t.Error(err)
		}
	}
	p, err := c.Start(t.Context(), guest.Command{Args: []string{"echo", "well"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var out strings.Builder
	if _, err := p.Copy(&out, nil); err != nil || out.String() != "well\n" {
		t.Errorf("after garbage: got %q, %v, want well", out.String(), err)
	}
}

// TestMemoryIsBounded has a command write far more than its ring while nobody
// reads, one reader blocks, and another falls behind.
func TestMemoryIsBounded(t *testing.T) {
	m := machine(t)
	c := guest.NewClient(m.Dial)
	p, err := c.Start(t.Context(), guest.Command{Args: []string{"sh", "-c", "head -c 400000000 /dev/zero; exec sleep 1000"}})
	if err != nil {
		t.Fatal(err)
	}
	q, err := c.Attach(t.Context(), p.ID(), guest.AttachOptions{Lossy: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close() // never reads
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := c.Attach(t.Context(), p.ID(), guest.AttachOptions{StdoutFrom: 400000000 - 1})
	if err != nil {
		t.Fatal(err)
	}
	n := &counter{want: 1 << 20, close: r.Close}
	r.Copy(n, nil)
	stats, err := m.(engine.Statser).Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if limit := int64(64 << 20); stats.Memory > limit {
		t.Errorf("agent after 400 MB of output: %d bytes of memory, want at most %d", stats.Memory, limit)
	}
}

// counter closes its source once it has enough.
type counter struct {
	got, want int
	close     func() error
}

func (c *counter) Write(p []byte) (int, error) {
	c.got += len(p)
	if c.got >= c.want {
		c.close()
	}
	return len(p), nil
}

func TestAgentWithoutControlSocketSaysSo(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "agent")
	build := exec.Command("go", "build", "-o", bin, "github.com/boxlite-go/boxlite/cmd/boxlite-agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	out, err := exec.Command(bin, "-root", t.TempDir()).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "control socket") {
		t.Errorf("agent started by hand: got %v, %q, want it to miss its control socket", err, out)
	}
	if out, err := exec.Command(bin, "-version").Output(); err != nil || string(out) != "dev\n" {
		t.Errorf("-version: got %q, %v, want dev", out, err)
	}
}
