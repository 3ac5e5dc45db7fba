package vnet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// public is an address that a box may reach; the tests connect to loopback in
// its place.
var public = netip.MustParseAddr("203.0.113.7")

// socket is a conn of the host.
type socket struct{ *net.TCPConn }

func (s socket) Reset() {
	_ = s.SetLinger(0)
	s.Close()
}

// gateTest is a gate, and a server that its flows end at.
type gateTest struct {
	*gate
	t      *testing.T
	policy atomic.Pointer[egress.Policy]
	server string // where dial goes, host:port
	dials  atomic.Int64
	names  []string // of the address
	port   uint16   // that the box wrote

	mu     sync.Mutex
	events []egress.Event
}

func policy(mode egress.Mode, allow ...string) egress.Policy {
	p := egress.Policy{Mode: mode}
	for _, r := range allow {
		p.Allow = append(p.Allow, egress.MustParse(r))
	}
	return p
}

func newGateTest(t *testing.T, p egress.Policy, secrets ...Secret) *gateTest {
	t.Helper()
	before := resources()
	t.Cleanup(func() { before.compare(t) })
	g := &gateTest{t: t, names: []string{"allowed.test"}, port: 443}
	g.policy.Store(&p)
	var err error
	g.gate, err = newGate(gateConfig{
		policy:  g.policy.Load,
		secrets: secrets,
		note: func(e egress.Event) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.events = append(g.events, e)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.close)
	return g
}

// connect opens a connection as a box would, which goes through guard. over is
// closed when guard has returned.
func (g *gateTest) connect() (client *net.TCPConn, over chan struct{}) {
	g.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		g.t.Fatal(err)
	}
	f := egress.Flow{Proto: egress.TCP, Dst: netip.AddrPortFrom(public, g.port), Names: g.names}
	ctx, cancel := context.WithCancel(context.Background())
	over = make(chan struct{})
	go func() {
		defer close(over)
		g.guard(ctx, f, socket{s.(*net.TCPConn)}, g.dial)
	}()
	g.t.Cleanup(func() {
		c.Close()
		cancel()
		<-over
	})
	return c.(*net.TCPConn), over
}

func (g *gateTest) dial(ctx context.Context) (conn, error) {
	g.dials.Add(1)
	c, err := new(net.Dialer).DialContext(ctx, "tcp", g.server)
	if err != nil {
		return nil, err
	}
	return socket{c.(*net.TCPConn)}, nil
}

// refusals are the events that refuse something.
func (g *gateTest) refusals() (denied []egress.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.Action == egress.Deny {
			denied = append(denied, e)
		}
	}
	return denied
}

// wantRefusal checks that just one thing was refused, and why.
func (g *gateTest) wantRefusal(k egress.Kind, why egress.Reason) {
	g.t.Helper()
	got := g.refusals()
	if len(got) != 1 || got[0].Kind != k || got[0].Reason != why {
		g.t.Errorf("events of refusals: got %+v, want one of kind %s because of %q", got, k, why)
	}
}

// client makes a client of HTTP whose connections go through guard. Of TLS it
// trusts the authority of the box, and roots.
func (g *gateTest) client(roots *x509.CertPool) *http.Client {
	if roots == nil {
		roots = x509.NewCertPool()
	}
	roots.AppendCertsFromPEM(g.ca())
	tr := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { c, _ := g.connect(); return c, nil },
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
	}
	g.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// echo serves HTTP, and answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Host", r.Host)
	w.Header().Set("X-Target", r.RequestURI)
	for k, v := range r.Header {
		w.Header()["X-Got-"+k] = v
	}
	body, _ := io.ReadAll(r.Body)
	_, _ = w.Write(body)
}

// httpServer serves plain HTTP, HTTP/2 too, on loopback.
func (g *gateTest) httpServer(h http.HandlerFunc) {
	s := httptest.NewUnstartedServer(h)
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s.Config.Protocols = &p
	s.Start()
	g.t.Cleanup(s.Close)
	g.server, g.port = s.Listener.Addr().String(), 80
}

// get fetches a URL and returns status, headers and body.
func get(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hasReset tells whether err is how a reset looks to its peer.
func hasReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "reset") || strings.Contains(err.Error(), "broken pipe"))
}

// lines serves a protocol in which the server begins, a line at a time.
func (g *gateTest) listen(serve func(c *net.TCPConn)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.server = l.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			})
		}
	})
	g.t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
}

// hello returns what a client of TLS sends first.
func hello(t testing.TB, name string, protos ...string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, &tls.Config{ServerName: name, NextProtos: protos, InsecureSkipVerify: true}).Handshake()
		near.Close()
	}()
	b := make([]byte, 16<<10)
	n := 0
	for sniff(b[:n]).kind == unfinished {
		k, err := far.Read(b[n:])
		if n += k; err != nil {
			t.Fatal(err)
		}
	}
	return slices.Clone(b[:n])
}
