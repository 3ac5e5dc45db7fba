package vnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// newSecretTest is a gate with a secret for api.test, in front of a server of
// TLS with a good certificate for that name.
func newSecretTest(t *testing.T, h http.HandlerFunc) *gateTest {
	t.Helper()
	g := newGateTest(t, policy(egress.AllowList, "*.test"), key("api.test"))
	g.names = []string{"api.test"}
	g.tlsServer("api.test", h)
	return g
}

// tlsServer serves HTTPS, and makes the gate trust its certificate.
func (g *gateTest) tlsServer(name string, h http.HandlerFunc) *httptest.Server {
	g.t.Helper()
	a, err := newAuthority([]secret{{hosts: []host{{name, false}}}})
	if err != nil {
		g.t.Fatal(err)
	}
	leaf, err := a.leaf(name)
	if err != nil {
		g.t.Fatal(err)
	}
	g.roots = x509.NewCertPool()
	g.roots.AddCert(a.cert)
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = g.proxy.server.ErrorLog
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*leaf}}
	s.StartTLS()
	g.t.Cleanup(s.Close)
	g.server = s.Listener.Addr().String()
	return s
}

// TestSecretArrives promises that the server gets the value, over HTTP/1.1 and
// HTTP/2, and the box only the placeholder, though the server echoes.
func TestSecretArrives(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			var got http.Header
			var body string
			g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got, body = r.Header.Clone(), string(b)
				if int64(len(b)) != r.ContentLength {
					t.Errorf("length: got %d, %d bytes came", r.ContentLength, len(b))
				}
				r.Body = io.NopCloser(bytes.NewReader(b))
				w.Header().Set("X-Basic", r.Header.Get("X-Basic"))
				echo(w, r)
			})
			c := g.client(nil)
			if proto == "HTTP/1.1" {
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = false
			}
			r := request(t, http.MethodPost, "https://api.test/x", `{"k":"`+placeholder+`"}`)
			r.Header.Set("Authorization", "Bearer "+placeholder)
			r.Header.Set("Content-Type", "application/json")
			res, echoed := get(t, c, r)
			if got.Get("Authorization") != "Bearer "+value || body != `{"k":"sk-\"real\"/value+123"}` || res.Header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("the server got %q and %q by %s", got, body, res.Header.Get("X-Proto"))
			}
			if res.Proto != proto || echoed != `{"k":"`+placeholder+`"}` || res.Header.Get("X-Got-Authorization") != "Bearer "+placeholder {
				t.Errorf("the box got %q and %q by %s", res.Header, echoed, res.Proto)
			}
			g.wantNoValue()
			if len(g.refusals()) > 0 || !slices.ContainsFunc(g.events, func(e egress.Event) bool {
				return e.Kind == egress.KindSecret && e.Name == "api.test" && e.Rule == "secret key"
			}) {
				t.Errorf("events: got %+v, want one that the secret was used", g.events)
			}
		})
	}
}

// wantNoValue checks that the log does not have the value.
func (g *gateTest) wantNoValue() {
	g.t.Helper()
	b, err := json.Marshal(g.events)
	if text := fmt.Sprintf("%+v %s", g.events, b); err != nil || strings.Contains(text, value) || strings.Contains(text, "real") {
		g.t.Errorf("the events have the value in them: %s, %v", text, err)
	}
}

// TestSecretStays promises that what is not a request over TLS to a host of the
// secret never has the value.
func TestSecretStays(t *testing.T) {
	ask := func(t *testing.T, g *gateTest, roots *x509.CertPool, url string) {
		t.Helper()
		r := request(t, http.MethodGet, url, "")
		r.Header.Set("Authorization", "Bearer "+placeholder)
		res, _ := get(t, g.client(roots), r)
		if got := res.Header.Get("X-Got-Authorization"); res.StatusCode != http.StatusOK || got != "Bearer "+placeholder {
			t.Errorf("got %d with %q, want the placeholder to arrive", res.StatusCode, got)
		}
	}
	t.Run("plain HTTP", func(t *testing.T) {
		g := newSecretTest(t, echo)
		g.httpServer(echo)
		ask(t, g, nil, "http://api.test/")
		g.wantRefusal(egress.KindSecret, egress.ReasonSecret)
	})
	t.Run("plain HTTP where all is allowed", func(t *testing.T) {
		g := newSecretTest(t, echo)
		g.policy.Store(&egress.Policy{})
		g.httpServer(echo)
		ask(t, g, nil, "http://api.test/")
		g.wantRefusal(egress.KindSecret, egress.ReasonSecret)
	})
	t.Run("another host", func(t *testing.T) {
		g := newSecretTest(t, echo)
		g.names = []string{"api.test", "other.test"}
		g.tlsServer("other.test", echo)
		ask(t, g, g.roots, "https://other.test/") // end to end: the client sees the server's own certificate
	})
	t.Run("an address that was not looked up", func(t *testing.T) {
		g := newSecretTest(t, echo)
		p := egress.Policy{Deny: []egress.Rule{egress.MustParse("evil.test")}}
		g.policy.Store(&p)
		g.names = nil
		ask(t, g, g.roots, "https://api.test/")
	})
}

// TestServerIsVerified promises that no value goes to a server that cannot show
// that it is the host.
func TestServerIsVerified(t *testing.T) {
	called := false
	g := newSecretTest(t, func(http.ResponseWriter, *http.Request) { called = true })
	for _, tt := range []struct {
		name  string
		spoil func()
	}{
		{"a certificate for another name", func() { g.tlsServer("other.test", func(http.ResponseWriter, *http.Request) { called = true }) }},
		{"an authority that nobody knows", func() {
			g.tlsServer("api.test", func(http.ResponseWriter, *http.Request) { called = true })
			g.roots = x509.NewCertPool()
		}},
	} {
		tt.spoil()
		r := request(t, http.MethodGet, "https://api.test/", "")
		r.Header.Set("Authorization", placeholder)
		res, body := get(t, g.client(nil), r)
		if called || res.StatusCode != http.StatusBadGateway || !strings.Contains(body, "certificate of api.test is not good") {
			t.Errorf("%s: got %d %q, called %t, want 502 that says why", tt.name, res.StatusCode, body, called)
		}
	}
}

// TestHostIsTheNameOfTLS promises that a connection to one host of secrets is of
// no use for another.
func TestHostIsTheNameOfTLS(t *testing.T) {
	g := newSecretTest(t, echo)
	r := request(t, http.MethodGet, "https://api.test/", "")
	r.Host = "other.test"
	res, _ := get(t, g.client(nil), r)
	if res.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("got %d, want 421", res.StatusCode)
	}
	g.wantRefusal(egress.KindHTTP, egress.ReasonName)
}

// TestBodiesThatAreLeft promises that bodies which are long, or of unknown length,
// stream through as they are.
func TestBodiesThatAreLeft(t *testing.T) {
	g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	long := strings.Repeat(placeholder, maxBody/len(placeholder)+1)
	for _, r := range []*http.Request{
		request(t, http.MethodPost, "https://api.test/", long),
		func() *http.Request {
			r := request(t, http.MethodPost, "https://api.test/", "")
			r.Body, r.ContentLength = io.NopCloser(io.LimitReader(strings.NewReader(long), 200)), -1
			return r
		}(),
	} {
		r.Header.Set("Content-Type", "text/plain")
		want := "200"
		if r.ContentLength > 0 {
			want = fmt.Sprint(len(long))
		}
		if _, body := get(t, g.client(nil), r); body != want {
			t.Errorf("the server got %s bytes, want %s", body, want)
		}
	}
	if n := g.bodies.Load(); n != 0 {
		t.Errorf("%d bytes of bodies count as in memory, want none", n)
	}
}

// TestEventsStream promises that each event of a stream arrives before the next
// one is sent.
func TestEventsStream(t *testing.T) {
	next := make(chan struct{})
	g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d %s\n\n", i, r.Header.Get("Authorization"))
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	r := request(t, http.MethodGet, "https://api.test/", "")
	r.Header.Set("Authorization", placeholder)
	res, err := g.client(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := lines.ReadString('\n')
		if want := fmt.Sprintf("data: %d %s\n", i, placeholder); err != nil || line != want {
			t.Errorf("got %q, %v, want %q", line, err, want)
		}
		_, _ = lines.ReadString('\n')
		next <- struct{}{}
	}
}

// TestSecretWebsocket promises that a websocket gets the value in its request, and
// that messages of the server come without it, in frames of the same length.
func TestSecretWebsocket(t *testing.T) {
	g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != value || r.Header.Get("Sec-Websocket-Extensions") != "" {
			t.Errorf("the server got %q", r.Header)
		}
		upgraded(w, r)
	})
	raw, _ := g.connect()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(g.ca())
	c := tls.Client(raw, &tls.Config{ServerName: "api.test", RootCAs: roots, NextProtos: []string{"http/1.1"}})
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: %s\r\n\r\n", placeholder)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("X-Key") != placeholder {
		t.Fatalf("got %v, %v, want 101 with the placeholder", res, err)
	}
	for _, message := range []string{"one", "two S", "three"} {
		fmt.Fprint(c, message)
		b := make([]byte, len(message))
		if _, err := io.ReadFull(r, b); err != nil || string(b) != strings.ToUpper(message) {
			t.Errorf("got %q, %v", b, err)
		}
	}
}

// TestOtherProtocolInTLS promises that what is not HTTP is left alone.
func TestOtherProtocolInTLS(t *testing.T) {
	g := newSecretTest(t, echo)
	s := g.tlsServer("api.test", echo)
	s.TLS.NextProtos = append(s.TLS.NextProtos, "postgresql")
	raw, _ := g.connect()
	c := tls.Client(raw, &tls.Config{ServerName: "api.test", RootCAs: g.roots, NextProtos: []string{"postgresql"}})
	if err := c.HandshakeContext(t.Context()); err != nil {
		t.Errorf("end to end: %v", err)
	}
}

// TestDistrustIsRecorded promises that a program which does not trust the
// authority of the box is seen in the log.
func TestDistrustIsRecorded(t *testing.T) {
	g := newSecretTest(t, echo)
	raw, over := g.connect()
	c := tls.Client(raw, &tls.Config{ServerName: "api.test", RootCAs: x509.NewCertPool()})
	if err := c.HandshakeContext(t.Context()); err == nil {
		t.Error("a client that trusts nobody: got no error")
	}
	<-over
	g.wantRefusal(egress.KindFlow, egress.ReasonAuthority)
}

// TestWants promises which flows go through the gate although they are allowed.
func TestWants(t *testing.T) {
	g := newSecretTest(t, echo)
	if !g.wants([]string{"other.test", "api.test"}) || g.wants([]string{"other.test"}) || g.wants(nil) {
		t.Error("only addresses of hosts of secrets are to come through the gate")
	}
}

// TestConcurrentRequests promises that many requests at once each get their own.
func TestConcurrentRequests(t *testing.T) {
	g := newSecretTest(t, echo)
	c := g.client(nil)
	errs := make(chan error)
	for i := range 200 {
		go func() {
			r, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://api.test/", strings.NewReader(fmt.Sprint(i, " ", placeholder)))
			r.Header.Set("Content-Type", "text/plain")
			res, err := c.Do(r)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && string(b) != fmt.Sprint(i, " ", placeholder) {
					err = fmt.Errorf("request %d got %q", i, b)
				}
			}
			errs <- err
		}()
	}
	for range 200 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkInspected measures downloads through the gate, with a secret for the
// host and without.
func BenchmarkInspected(b *testing.B) {
	for _, tt := range []struct {
		name  string
		names []string
	}{{"inspected", []string{"api.test"}}, {"passed", []string{"other.test"}}} {
		b.Run(tt.name, func(b *testing.B) {
			const size = 64 << 20
			var t testing.T
			g := newGateTest(&t, policy(egress.AllowList, "*.test"), key("api.test"))
			g.names = tt.names
			s := g.tlsServer(tt.names[0], zeros(size))
			defer s.Close()
			defer g.close()
			c := g.client(g.roots)
			b.SetBytes(size)
			for b.Loop() {
				r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "https://"+tt.names[0]+"/", nil)
				if err != nil {
					b.Fatal(err)
				}
				res, err := c.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
					b.Fatal(n, err)
				}
				res.Body.Close()
			}
		})
	}
}
