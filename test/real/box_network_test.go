package real

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// alias is the name of this host in a box.
const alias = "host.boxlite.internal"

// hello serves a word on this host's loopback and returns its port.
func hello(t *testing.T, word string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) }))
	t.Cleanup(s.Close)
	return portOf(t, s.Listener.Addr())
}

func portOf(t *testing.T, a net.Addr) string {
	t.Helper()
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// allowing is a policy of these rules and nothing else.
func allowing(rules ...string) egress.Policy {
	p := egress.Policy{Mode: egress.AllowList}
	for _, r := range rules {
		p.Allow = append(p.Allow, egress.MustParse(r))
	}
	return p
}

// fetch gets a URL in a box and returns what came, or "failed".
func fetch(t *testing.T, b *boxlite.Box, url string) string {
	t.Helper()
	return boxtest.Sh(t, b, `python -c '
import urllib.request
try: print(urllib.request.urlopen("`+url+`", timeout=10).read().decode(), end="")
except OSError: print("failed", end="")'`)
}

// refusals is what the log of a box says was refused, and why.
func refusals(t *testing.T, b *boxlite.Box) (all []string) {
	t.Helper()
	for e, err := range b.NetworkLog(t.Context(), boxlite.NetworkLogOptions{Refused: true}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %s %s: %s", e.Kind, e.Name, e.Addr, e.Reason))
	}
	return all
}

// TestHostIsReachedByRule reaches a server on this host's loopback where a rule
// names it, and not another one beside it, nor without the rule.
func TestHostIsReachedByRule(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	port, other := hello(t, "allowed"), hello(t, "not allowed")
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Network: allowing(alias + ":" + port)})
	if got, want := fetch(t, b, "http://"+alias+":"+port), "allowed"; got != want {
		t.Errorf("with a rule: got %q, want %q", got, want)
	}
	if got, want := fetch(t, b, "http://"+alias+":"+other), "failed"; got != want {
		t.Errorf("another port: got %q, want %q", got, want)
	}
	if got := refusals(t, b); !slices.ContainsFunc(got, func(s string) bool {
		return strings.Contains(s, ":"+other) && strings.HasSuffix(s, string(egress.ReasonAlias))
	}) {
		t.Errorf("log of refusals: got %q, want one of port %s", got, other)
	}
	info, err := b.Info(t.Context())
	if err != nil || len(info.Refusals) == 0 {
		t.Errorf("refusals of an inspection: got %v, %v, want some", info.Refusals, err)
	}

	plain := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	if got, want := fetch(t, plain, "http://"+alias+":"+port), "failed"; got != want {
		t.Errorf("without a rule: got %q, want %q", got, want)
	}
	if got, want := fetch(t, plain, "http://127.0.0.1:"+port), "failed"; got != want {
		t.Errorf("by the box's own loopback: got %q, want %q", got, want)
	}
}

// TestDisabledNetwork has the loopback device, which works, and nothing else.
func TestDisabledNetwork(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	for name, o := range map[string]boxlite.BoxOptions{
		"mode":     {Network: egress.Policy{Mode: egress.Disabled}},
		"security": {Security: boxlite.SecurityOptions{NetworkDisabled: true}},
	} {
		o.Image = boxtest.Python
		b := boxtest.Box(t, rt, o)
		if got, want := boxtest.Sh(t, b, "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo\n"; got != want {
			t.Errorf("%s: devices: got %q, want %q", name, got, want)
		}
		script := `
import socket
s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname()); print("loopback")
for host in ("1.1.1.1", "192.168.127.1", "169.254.169.254"):
    try: socket.create_connection((host, 80), 2); print("connected")
    except OSError as e: print(e.strerror)`
		out, err := b.Command(t.Context(), "python", "-c", script).Output()
		if want := "loopback\n" + strings.Repeat("Network is unreachable\n", 3); err != nil || string(out) != want {
			t.Errorf("%s: got %q, %v, want %q", name, out, err, want)
		}
	}
}

// serveInBox starts a web server on port 8000 of a box and waits for it.
func serveInBox(t *testing.T, b *boxlite.Box) {
	t.Helper()
	c := b.Command(t.Context(), "python", "-c", `
import http.server, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"from the box to " + self.client_address[0].encode())
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6  # and IPv4 with it
s = S(("::", 8000), H); print("ready", flush=True); s.serve_forever()`)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Kill(); _ = c.Wait() })
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// TestPublishedPorts reaches a box from this host, over TCP and UDP, at ports
// that the host chose.
func TestPublishedPorts(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		Image: boxtest.Python, Network: egress.Policy{Mode: egress.AllowList},
		Ports: []boxlite.Port{{BoxPort: 8000}, {BoxPort: 9000, Proto: "udp"}, {HostIP: "::1", BoxPort: 8000}},
	})
	serveInBox(t, b)
	info, err := b.Info(t.Context())
	if err != nil || len(info.Ports) != 3 {
		t.Fatalf("ports: got %v, %v, want 3", info.Ports, err)
	}
	at := func(i int) string {
		return net.JoinHostPort(info.Ports[i].HostIP, fmt.Sprint(info.Ports[i].HostPort))
	}
	for _, i := range []int{0, 2} {
		if got := get(t, http.DefaultClient, "http://"+at(i)); !strings.HasPrefix(got, "from the box") {
			t.Errorf("port %s: got %q, want the server in the box", at(i), got)
		}
	}
	boxtest.Mirror(t, b, 9000)
	c, err := net.Dial("udp", at(1))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := exchange(c, "abc"); got != "cba" || err != nil {
		t.Errorf("published UDP: got %q, %v, want %q", got, err, "cba")
	}
	inner, err := b.Dial("udp", "box:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	if got, err := exchange(inner, "xyz"); got != "zyx" || err != nil {
		t.Errorf("dialled UDP: got %q, %v, want %q", got, err, "zyx")
	}
}

func exchange(c net.Conn, say string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := c.Write([]byte(say)); err != nil {
		return "", err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// TestDialFitsHTTP reaches a port that is not published, as a program would.
func TestDialFitsHTTP(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	serveInBox(t, b)
	client := &http.Client{Transport: &http.Transport{DialContext: b.DialContext}}
	defer client.CloseIdleConnections()
	for range 3 {
		if got := get(t, client, "http://anything.example:8000/"); !strings.HasPrefix(got, "from the box") {
			t.Errorf("got %q, want the server in the box", got)
		}
	}
	if _, err := b.Dial("tcp", "box:8001"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("port without a server: got %v, want %v", err, syscall.ECONNREFUSED)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.DialContext(ctx, "tcp", "box:8000"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want %v", err, context.Canceled)
	}
}

// TestDialCarriesAll sends more than any buffer into a box, ends its sending,
// and gets the answer that the program in the box gives then.
func TestDialCarriesAll(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	c := b.Command(t.Context(), "python", "-c", `
import hashlib, socket, threading
s = socket.create_server(("0.0.0.0", 7000), backlog=64); print("ready", flush=True)
def serve(c):
    h = hashlib.sha256()
    while d := c.recv(65536): h.update(d)
    c.sendall(h.hexdigest().encode()); c.close()
while True: threading.Thread(target=serve, args=(s.accept()[0],)).start()`)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Kill(); _ = c.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 8<<20)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c, err := b.Dial("tcp", "box:7000")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, err = c.Write(data)
			got, readErr := halfClosed(c)
			if err := errors.Join(err, readErr); err != nil || got != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		})
	}
	all.Wait()
	st, err := b.Stats(t.Context())
	if sent := int64(8 * len(data)); err != nil || st.Network.Received < sent || st.Network.Connections < 8 {
		t.Errorf("statistics: got %+v, %v, want 8 connections and %d bytes received", st.Network, err, sent)
	}
}

// halfClosed ends the sending of a connection and reads to its end.
func halfClosed(c net.Conn) (string, error) {
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

// connected runs a Python program in a new box that reaches this host alone, and
// has a connection to it: c there, and conn here.
func connected(t *testing.T, program string) (b *boxlite.Box, cmd *boxlite.Cmd, conn net.Conn) {
	t.Helper()
	rt, _ := boxtest.New(t, boxtest.Python)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	port := portOf(t, ln.Addr())
	b = boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Network: allowing(alias + ":" + port)})
	cmd = b.Command(t.Context(), "python", "-c", `
import socket
host = ("`+alias+`", `+port+`)
c = socket.create_connection(host)
`+program)
	cmd.Stdout = new(bytes.Buffer)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if conn, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return b, cmd, conn
}

// TestPolicyOfARunningBox changes it under an open connection.
func TestPolicyOfARunningBox(t *testing.T) {
	t.Parallel()
	b, c, _ := connected(t, `
try: print(c.recv(1))
except ConnectionResetError: print("reset")
try: socket.create_connection(host)
except OSError as e: print(type(e).__name__)`)
	if err := b.SetNetwork(t.Context(), egress.Policy{Mode: egress.AllowList}); err != nil {
		t.Fatal(err)
	}
	err := c.Wait()
	if got := fmt.Sprint(c.Stdout); err != nil || !strings.HasPrefix(got, "reset\n") || strings.Count(got, "\n") != 2 {
		t.Errorf("after the change: got %q, %v, want a reset and a refused connection", got, err)
	}
}

// TestSaveWithOpenConnections saves the files of a box whose connections are in
// use, and the connections go on.
func TestSaveWithOpenConnections(t *testing.T) {
	t.Parallel()
	b, c, conn := connected(t, `
while d := c.recv(1000): c.sendall(d)`)
	boxtest.Sh(t, b, "echo kept >/file")
	for _, word := range []string{"one", "two", "three"} {
		if got, err := exchange(conn, word); got != word || err != nil {
			t.Fatalf("echo: got %q, %v, want %q", got, err, word)
		}
		if err := b.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := boxtest.Sh(t, b, "cat /file; cut -d: -f1 /proc/net/dev | tail -1"), "kept\n  eth0\n"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
}

// TestStopWithHalfClosedConnections stops a box that has ended its sending, both
// on a connection that it made and on one that was made to it, while the other
// ends neither send nor close.
func TestStopWithHalfClosedConnections(t *testing.T) {
	t.Parallel()
	b, _, conn := connected(t, `
s = socket.create_server(("0.0.0.0", 7000))
c.shutdown(socket.SHUT_WR)
d = s.accept()[0]
d.shutdown(socket.SHUT_WR)
c.recv(1)`)
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil {
		t.Fatalf("on this host: got %q, %v, want the end", got, err)
	}
	into, err := b.Dial("tcp", "box:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer into.Close()
	if got, err := io.ReadAll(into); len(got) > 0 || err != nil {
		t.Fatalf("from the box: got %q, %v, want the end", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // without end before
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Errorf("stop: got %v, want nil", err)
	}
}
