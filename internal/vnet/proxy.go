package vnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

const (
	// maxHeader is twice what the most generous servers accept.
	maxHeader = 128 << 10

	// idleTimeout is how long a connection of a client may stay open between
	// two requests: longer than most servers allow.
	idleTimeout = 5 * time.Minute

	// upstreamIdle and maxUpstreamIdle are how long, and how many, connections
	// to a server are kept for the next request of the same client.
	upstreamIdle    = 90 * time.Second
	maxUpstreamIdle = 4

	// maxStreams and maxUpstream bound the requests of one connection that are
	// under way at once, over HTTP/2, and the connections they get.
	maxStreams  = 100
	maxUpstream = 32

	// maxSessions and maxRequests bound what all connections of a box take: a
	// request in flight has buffers of about 100 KiB.
	maxSessions = 512
	maxRequests = 512

	// uploadWindow is what a client may send over HTTP/2 before the server
	// takes it. The box is near, so it is no limit of speed.
	uploadWindow = 128 << 10

	// Of what a server sends over HTTP/2 and the client does not take yet, all
	// sessions together may hold windowBudget and some more; each has a share,
	// which for a few is what a fast and distant server needs.
	windowBudget = 16 << 20
	minWindow    = 128 << 10
	maxWindow    = 4 << 20
)

// window is the share of a session when n are open.
func window(n int64) int { return int(max(minWindow, min(maxWindow, windowBudget/n))) }

// proxy takes connections of clients apart into requests. It is one server for
// all of them, so that a connection costs little.
type proxy struct {
	server  http.Server
	forward httputil.ReverseProxy
	start   sync.Once
	stop    sync.Once
	conns   chan net.Conn
	served  sync.WaitGroup // the server and its requests

	mu     sync.Mutex // served grows only while closed is not
	closed chan struct{}

	sessions atomic.Int64
	requests atomic.Int64
}

func newProxy() *proxy {
	p := &proxy{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.server = http.Server{
		Handler:           p,
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: uploadWindow,
			MaxReceiveBufferPerStream:     uploadWindow,
		},
		Protocols:   protocols(true, true),
		ConnContext: withSession,
		// OPTIONS * is for the server.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // has what a client sent in it
	}
	p.forward = httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      roundTripper{},
		ModifyResponse: answered,
		ErrorHandler:   unanswered,
		FlushInterval:  -1, // what a server says goes on at once
		BufferPool:     &buffers{},
		ErrorLog:       p.server.ErrorLog,
	}
	return p
}

func protocols(h1, h2c bool) *http.Protocols {
	var p http.Protocols
	p.SetHTTP1(h1)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(h2c)
	return &p
}

// close ends the server. No session may begin after it.
func (p *proxy) close() {
	p.mu.Lock()
	p.stop.Do(func() { close(p.closed) })
	p.mu.Unlock()
	_ = p.server.Close()
	p.served.Wait()
}

// Accept, Close and Addr make a listener of the sessions.
func (p *proxy) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close is for the server; proxy.close does what there is to do.
func (p *proxy) Close() error { return nil }

// Addr is no address.
func (p *proxy) Addr() net.Addr { return &net.TCPAddr{} }

// serve hands the connection of a session to the server, and returns when it is
// over.
func (p *proxy) serve(s *session, c net.Conn) {
	p.start.Do(func() {
		if p.enter() {
			go func() { // close waits for it
				defer p.served.Done()
				_ = p.server.Serve(p) // ends when it is closed
			}()
		}
	})
	select {
	case p.conns <- c:
		<-s.over
	case <-p.closed:
		c.Close()
	}
}

// enter counts something that close waits for, unless it is too late.
func (p *proxy) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return false
	default:
		p.served.Add(1)
		return true
	}
}

type (
	sessionKey struct{}
	callKey    struct{}
)

func withSession(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, sessionKey{}, c.(*sessionConn).session)
}

// call is one request of a session.
type call struct {
	*session
	host     string    // as it is sent on: canonical, with the port if there was one
	exchange *exchange // nil: no secrets are for the host
	upgrade  bool      // the client asks for a websocket
	held     int64     // bytes of its body in memory
	unwatch  func()
}

// ServeHTTP judges a request by its host, and passes it on.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !p.enter() {
		return
	}
	defer p.served.Done()
	c := &call{session: r.Context().Value(sessionKey{}).(*session), unwatch: func() {}}
	v := c.judge(r)
	defer c.unwatch()
	defer p.requests.Add(-1)
	if p.requests.Add(1) > maxRequests {
		v = tooMany
	}
	if v.Action != egress.Allow {
		c.refuse(w, r, v)
		return
	}
	if status, why := c.fill(r); why != "" {
		c.say(w, status, why)
		return
	}
	defer c.release()
	_ = http.NewResponseController(w).EnableFullDuplex() // a server may answer before it has read all; HTTP/2 does it anyway
	p.forward.ServeHTTP(&response{ResponseWriter: w}, r.WithContext(context.WithValue(r.Context(), callKey{}, c)))
}

// judge decides about a request, and sets the host that it is sent to.
func (c *call) judge(r *http.Request) egress.Verdict {
	f := c.flow
	host, port := splitHost(r.Host)
	switch {
	case r.Method == http.MethodConnect: // a tunnel to wherever the server likes
		return egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonName}
	case host == "":
		return egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonNoName}
	}
	name, err := egress.Name(host)
	if err != nil {
		name = host // an address; Decide knows whether it is the right one
	}
	c.host = name + port
	if c.secure() && name != f.Host {
		return egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonName}
	}
	f.Host = host
	c.unwatch = c.watch(f, c.reset)
	return c.policy().Decide(f)
}

// splitHost parts a host from its port, which keeps its colon.
func splitHost(s string) (host, port string) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.HasSuffix(s, "]") || strings.Trim(s[i+1:], "0123456789") != "" {
		return s, ""
	}
	return s[:i], s[i:]
}

// refuse answers a request that the policy does not allow.
func (c *call) refuse(w http.ResponseWriter, r *http.Request, v egress.Verdict) {
	host, _ := splitHost(r.Host)
	c.note(c.event(egress.KindHTTP, host, v))
	status := http.StatusForbidden
	switch {
	case v.Reason == egress.ReasonLimit:
		status = http.StatusServiceUnavailable
	case c.secure() && v.Reason == egress.ReasonName:
		status = http.StatusMisdirectedRequest
	}
	w.Header().Set("X-Boxlite-Refused", string(v.Reason))
	c.say(w, status, fmt.Sprintf("%q is refused: %s (rule: %s)", host, v.Reason, v.Rule))
}

// say answers in our own words.
func (c *call) say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "boxlite: %s\n", text)
}

// rewrite makes the request that is sent on.
func rewrite(pr *httputil.ProxyRequest) {
	c := pr.In.Context().Value(callKey{}).(*call)
	out := pr.Out
	// The connections of a session all go to one place, and their number is
	// bounded by this name, so it is the same for all hosts.
	out.URL.Scheme, out.URL.Host, out.Host = c.scheme(), c.flow.Dst.String(), c.host
	out.URL.RawQuery = pr.In.URL.RawQuery // as the client wrote it
	for _, k := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if v, ok := pr.In.Header[k]; ok {
			out.Header[k] = v
		}
	}
	if !c.upgrade {
		// After another upgrade nothing could be judged: HTTP allows to go
		// on without.
		out.Header.Del("Upgrade")
		out.Header.Del("Connection")
		out.Header.Del("HTTP2-Settings")
	}
}

// roundTripper sends each request over the connections of its session.
type roundTripper struct{}

// RoundTrip is for ReverseProxy.
func (roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return r.Context().Value(callKey{}).(*call).transport.RoundTrip(r)
}

// answered changes a response before it goes to the client.
func answered(res *http.Response) error {
	// Another port or HTTP/3 would go round us.
	res.Header.Del("Alt-Svc")
	c := res.Request.Context().Value(callKey{}).(*call)
	if c.exchange == nil {
		return nil
	}
	return c.exchange.scrub(res)
}

// unanswered tells the client why there is no response.
func unanswered(w http.ResponseWriter, r *http.Request, err error) {
	c := r.Context().Value(callKey{}).(*call)
	var certificate *tls.CertificateVerificationError
	text := "no answer from " + c.host + ": " + err.Error()
	switch {
	case errors.As(err, &certificate):
		text = "the certificate of " + c.host + " is not good: " + certificate.Err.Error()
	case r.Context().Err() != nil: // nobody waits for it
		text = ""
	}
	if c.exchange != nil {
		text = c.exchange.scrubText(text)
	}
	c.say(w, http.StatusBadGateway, text)
}

// response keeps package http from adding to what a server said.
type response struct{ http.ResponseWriter }

// WriteHeader passes on the status. Informational ones are left out: their
// headers come without being looked at.
func (w *response) WriteHeader(status int) {
	if status < http.StatusOK && status != http.StatusSwitchingProtocols {
		return
	}
	for _, k := range []string{"Content-Type", "Date"} {
		if _, ok := w.Header()[k]; !ok {
			w.Header()[k] = nil
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffers are what bodies are copied through.
type buffers struct{ pool sync.Pool }

// Get returns a buffer of the size that records of TLS and frames make useful.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

// Put takes it back.
func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
