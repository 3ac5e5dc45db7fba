package vnet

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// TestHTTPHosts promises that every request of plain HTTP is judged by its own
// host, and that a refusal says why.
func TestHTTPHosts(t *testing.T) {
	for _, tt := range []struct {
		name   string
		head   string
		status int
		reason egress.Reason
	}{
		{"the host", "GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n", 200, ""},
		{"the host in another form", "GET /x HTTP/1.1\r\nHost: Allowed.TEST.:80\r\n\r\n", 200, ""},
		{"another host", "GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 403, egress.ReasonName},
		{"a host that ends like it", "GET /x HTTP/1.1\r\nHost: allowed.test.evil.test\r\n\r\n", 403, egress.ReasonName},
		{"another host, looked up too", "GET /x HTTP/1.1\r\nHost: second.test\r\n\r\n", 403, egress.ReasonNotAllowed},
		{"no host", "GET /x HTTP/1.0\r\n\r\n", 403, egress.ReasonNoName},
		{"two hosts", "GET /x HTTP/1.1\r\nHost: allowed.test\r\nHost: evil.test\r\n\r\n", 400, ""},
		{"an address", "GET /x HTTP/1.1\r\nHost: 203.0.113.7\r\n\r\n", 403, egress.ReasonName},
		{"a URL of the host", "GET http://allowed.test/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 200, ""},
		{"a URL of another host", "GET http://evil.test/x HTTP/1.1\r\nHost: allowed.test\r\n\r\n", 403, egress.ReasonName},
		{"a tunnel", "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", 403, egress.ReasonName},
		{"a tunnel to the host", "CONNECT allowed.test:22 HTTP/1.1\r\nHost: allowed.test:22\r\n\r\n", 403, egress.ReasonName},
		{"an empty line first", "\r\nGET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 400, ""},
		{"a folded header", "GET /x HTTP/1.1\r\nHost: allowed.test\r\n evil.test\r\n\r\n", 400, ""},
		{"a length twice", "POST /x HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
			g.names = []string{"allowed.test", "second.test"}
			g.httpServer(echo)
			c, _ := g.connect()
			fmt.Fprint(c, tt.head)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
			if res.StatusCode != tt.status {
				t.Errorf("status: got %d, want %d: %s", res.StatusCode, tt.status, b)
			}
			if tt.status == 200 && (res.Header.Get("X-Target") != "/x" || !strings.HasPrefix(res.Header.Get("X-Host"), "allowed.test")) {
				t.Errorf("the server was asked for %q of %q", res.Header.Get("X-Target"), res.Header.Get("X-Host"))
			}
			if tt.reason != "" {
				if got := res.Header.Get("X-Boxlite-Refused"); got != string(tt.reason) || !strings.Contains(string(b), got) {
					t.Errorf("reason: got %q and %q, want %q", got, b, tt.reason)
				}
				g.wantRefusal(egress.KindHTTP, tt.reason)
			}
		})
	}
}

// TestSecondRequest promises that a connection which began with an allowed host
// is of no use for another, and still is for the first.
func TestSecondRequest(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(echo)
	c, _ := g.connect()
	r := bufio.NewReader(c)
	for i, host := range []string{"allowed.test", "evil.test", "allowed.test"} {
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\n\r\nbody", host)
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		if want := map[string]int{"allowed.test": 200, "evil.test": 403}[host]; res.StatusCode != want {
			t.Errorf("request %d to %s: got %d, want %d", i, host, res.StatusCode, want)
		}
	}
	if n := g.dials.Load(); n != 1 {
		t.Errorf("connections to the server: got %d, want one for all requests", n)
	}
	less := policy(egress.AllowList, "second.test")
	g.policy.Store(&less)
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusForbidden {
		t.Errorf("after a change of policy: got %v, %v, want 403", res, err)
	}
}

// TestHTTPPassesUnchanged promises that requests and responses arrive as they were
// sent: targets, headers, and nothing added.
func TestHTTPPassesUnchanged(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"], w.Header()["Content-Type"] = nil, nil
		w.Header().Set("Alt-Svc", `h3=":443"`)
		echo(w, r)
	})
	r := request(t, http.MethodPost, "http://allowed.test/a%2Fb/../c;x?q=1;2&%zz", "body")
	r.Header = http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Accept-Encoding": {"br"}, "User-Agent": nil}
	res, body := get(t, g.client(nil), r)
	if got := res.Header.Get("X-Target"); got != "/a%2Fb/../c;x?q=1;2&%zz" || body != "body" {
		t.Errorf("target and body: got %q, %q", got, body)
	}
	for k, want := range map[string]string{
		"X-Got-X-Forwarded-For": "192.0.2.1", "X-Got-Accept-Encoding": "br", "X-Got-User-Agent": "",
		"Date": "", "Content-Type": "", "Alt-Svc": "", "X-Got-Via": "", "X-Got-Connection": "",
	} {
		if got := res.Header.Get(k); got != want {
			t.Errorf("header %s: got %q, want %q", k, got, want)
		}
	}
}

// TestHTTP2WithoutTLS promises that HTTP/2 with prior knowledge is judged by
// request too.
func TestHTTP2WithoutTLS(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(echo)
	c := g.client(nil)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	c.Transport.(*http.Transport).Protocols = &p
	r := request(t, http.MethodPost, "http://allowed.test/x", "body")
	res, body := get(t, c, r)
	if res.StatusCode != http.StatusOK || body != "body" || res.Header.Get("X-Proto") != "HTTP/2.0" {
		t.Errorf("got %d %q by %q, want HTTP/2 on both sides", res.StatusCode, body, res.Header.Get("X-Proto"))
	}
	r = request(t, http.MethodGet, "http://allowed.test/x", "")
	r.Host = "evil.test"
	if res, _ = get(t, c, r); res.StatusCode != http.StatusForbidden {
		t.Errorf("another host on the connection: got %d, want 403", res.StatusCode)
	}
	g.wantRefusal(egress.KindHTTP, egress.ReasonName)
}

// upgraded serves one upgrade, and echoes in capitals what comes then.
func upgraded(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") == "" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	c, rw, _ := http.NewResponseController(w).Hijack()
	defer c.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Extensions: %s\r\nX-Key: %s\r\n\r\n",
		r.Header.Get("Upgrade"), r.Header.Get("Sec-Websocket-Extensions"), r.Header.Get("Authorization"))
	rw.Flush()
	for {
		b := make([]byte, 100)
		n, err := rw.Read(b)
		if err != nil {
			return
		}
		fmt.Fprint(rw, strings.ToUpper(string(b[:n])))
		rw.Flush()
	}
}

// TestWebsocket promises that an upgrade to a websocket works, and that none to
// anything else happens, after which requests could not be judged.
func TestWebsocket(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(upgraded)
	c, over := g.connect()
	r := bufio.NewReader(c)
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v, want 101", res, err)
	}
	fmt.Fprint(c, "frame")
	b := make([]byte, 5)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "FRAME" {
		t.Errorf("got %q, %v", b, err)
	}
	c.Close()
	<-over

	for _, proto := range []string{"h2c", "TLS/1.2", "connect-udp"} {
		c, _ = g.connect()
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: allowed.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", proto)
		if res, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || res.StatusCode != http.StatusTeapot {
			t.Errorf("upgrade to %s: got %v, %v, want to go on without", proto, res, err)
		}
	}
}

// TestPolicyChangeEndsRequest promises that a request which goes on for long ends
// when its host is no longer allowed, though others are at the same address.
func TestPolicyChangeEndsRequest(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test", "second.test"))
	g.names = []string{"allowed.test", "second.test"}
	g.httpServer(upgraded)
	c, over := g.connect()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: second.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	r := bufio.NewReader(c)
	if res, err := http.ReadResponse(r, nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v, want 101", res, err)
	}
	less := policy(egress.AllowList, "allowed.test")
	g.policy.Store(&less)
	g.recheck()
	if _, err := r.ReadByte(); !hasReset(err) {
		t.Errorf("got %v, want a reset", err)
	}
	<-over
}

// TestConnectionsAreBounded promises that one client does not make us open any
// number of connections by writing its host in many ways.
func TestConnectionsAreBounded(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(echo)
	c, _ := g.connect()
	r := bufio.NewReader(c)
	for port := range 100 {
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: allowed.test:%d\r\n\r\n", port+1)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.Header.Get("X-Host") != fmt.Sprintf("allowed.test:%d", port+1) {
			t.Fatalf("got %v, %v", res, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
	}
	if n := g.dials.Load(); n != 1 {
		t.Errorf("connections: got %d, want 1", n)
	}
}

// TestTooMany promises that what all connections of a box take is bounded, and
// that what is too much is refused at once.
func TestTooMany(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.httpServer(echo)
	g.proxy.requests.Store(maxRequests)
	res, body := get(t, g.client(nil), request(t, http.MethodGet, "http://allowed.test/", ""))
	if res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, string(egress.ReasonLimit)) {
		t.Errorf("a request: got %d %q, want 503 and why", res.StatusCode, body)
	}
	g.proxy.sessions.Store(maxSessions)
	c, over := g.connect()
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
	if b, err := io.ReadAll(c); !hasReset(err) {
		t.Errorf("a connection: got %q, %v, want a reset", b, err)
	}
	<-over
	if n := g.proxy.sessions.Load(); n != maxSessions {
		t.Errorf("sessions: got %d, want what they were", n)
	}
	var all int
	for n := range int64(maxSessions) {
		all += window(n + 1)
	}
	if all > 128<<20 || window(1) != maxWindow || window(maxSessions) != minWindow {
		t.Errorf("windows: got %d MiB in all, %d for the first", all>>20, window(1))
	}
}

// TestServerSpeaksFirstInHTTP promises that a connection on which the server
// spoke first is not taken for HTTP.
func TestServerSpeaksFirstInHTTP(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.port = 8080
	g.listen(func(c *net.TCPConn) {
		fmt.Fprint(c, "hello\r\n")
		_, _ = io.Copy(c, c)
	})
	c, _ := g.connect()
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
	if b, err := io.ReadAll(r); !hasReset(err) {
		t.Errorf("got %q, %v, want a reset", b, err)
	}
	g.wantRefusal(egress.KindFlow, egress.ReasonNoName)
}
