package httpapi

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

// Route is one operation of a dialect.
type Route struct {
	Pattern string // as http.ServeMux takes it
	Scope   string // that a key needs
	Open    bool   // needs no key at all
	Handle  func(w http.ResponseWriter, r *http.Request) error
}

// Config makes a handler out of routes.
type Config struct {
	Routes []Route
	Keys   *Keys        // nil or empty: everybody who can connect is welcome
	Logger *slog.Logger // for the access log; nil is silent
	// Observe, if set, is told of each request when it has been answered.
	Observe func(pattern string, status int, d time.Duration)
	// Trace, if set, is told of each request that needs a key, before it is
	// handled. It returns the context for the handler, and what is told how
	// the request was answered.
	Trace func(r *http.Request, route, id string) (ctx context.Context, end func(status int, err error))
	// Draining, if set, refuses requests that begin something new.
	Draining func() bool
}

// everybody is who may do all: no key was asked for.
var everybody = Principal{Name: "anonymous", Scopes: Scopes}

// Handler serves the routes: request id, access log, origin and key checks,
// and the envelope for every error, those of routing included.
func Handler(c Config) http.Handler {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{Config: c, mux: http.NewServeMux(), open: map[string]bool{}, cross: http.NewCrossOriginProtection()}
	for _, r := range c.Routes {
		if r.Open {
			_, path, _ := strings.Cut(r.Pattern, " ")
			h.open[path] = true
		}
		h.mux.HandleFunc(r.Pattern, h.route(r))
	}
	return h
}

type handler struct {
	Config
	mux   *http.ServeMux
	open  map[string]bool // paths that need no key
	cross *http.CrossOriginProtection
}

// route serves one route for those whose key has its scope.
func (h *handler) route(r Route) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if who := Who(req.Context()); !r.Open && !who.May(r.Scope) {
			WriteError(w, req, Forbidden.Errorf("the key %q lacks the scope %s", who.Name, r.Scope))
			return
		}
		if h.Trace != nil && !r.Open {
			f := factsOf(req.Context())
			ctx, end := h.Trace(req, r.Pattern, f.id)
			req, f.end = req.WithContext(ctx), end
		}
		if err := r.Handle(w, req); err != nil {
			WriteError(w, req, err)
		}
	}
}

// facts is what a request learns on its way, for the access log.
type facts struct {
	id  string
	who Principal
	err *Error
	end func(status int, err error) // of its span; nil: none
}

// cause is why the request failed, or nil.
func (f *facts) cause() error {
	if f.err == nil {
		return nil
	}
	return f.err
}

type factsKey struct{}

func factsOf(ctx context.Context) *facts {
	f, _ := ctx.Value(factsKey{}).(*facts)
	if f == nil {
		return &facts{}
	}
	return f
}

// RequestID is the id of the request that ctx belongs to.
func RequestID(ctx context.Context) string { return factsOf(ctx).id }

// Who makes the request that ctx belongs to.
func Who(ctx context.Context) Principal { return factsOf(ctx).who }

func note(r *http.Request, e *Error) { factsOf(r.Context()).err = e }

// maxRequestID bounds the id that a client may choose.
const maxRequestID = 128

func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	if id == "" || len(id) > maxRequestID || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") != "" {
		return "req-" + strings.ToLower(rand.Text()[:16])
	}
	return id
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	f := &facts{id: requestID(r)}
	r = r.WithContext(context.WithValue(r.Context(), factsKey{}, f))
	rec := &recorder{ResponseWriter: w}
	rec.Header().Set("X-Request-Id", f.id)
	defer func() {
		if p := recover(); p != nil {
			h.panicked(rec, r, p)
		}
		h.done(rec, r, f, time.Since(begun))
	}()
	if err := h.admit(r, f); err != nil {
		WriteError(rec, r, err)
		return
	}
	if _, pattern := h.mux.Handler(r); pattern == "" {
		h.unrouted(rec, r)
		return
	}
	h.mux.ServeHTTP(rec, r)
}

// admit finds out who asks, and refuses strangers.
func (h *handler) admit(r *http.Request, f *facts) error {
	f.who = everybody
	if err := h.cross.Check(r); err != nil {
		return &Error{Kind: Forbidden, Message: "a page of another site sent this request", Err: err}
	}
	switch {
	case Local(r.Context()):
		f.who = Principal{Name: "local", Scopes: Scopes, Local: true}
	case h.Keys != nil && h.Keys.Any():
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		who, known := h.Keys.Find(token)
		if !h.open[r.URL.Path] && (!ok || !known) {
			return unauthenticated(ok)
		}
		f.who = who
	case !hereHost(r.Host):
		// Without a key only a name of this machine may be used: a web page
		// can make its own name resolve to 127.0.0.1.
		return misdirected.Errorf("host %q: without an API key only names of this machine are served", r.Host)
	}
	if h.Draining != nil && h.Draining() && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return &Error{Kind: Engine, Message: "the server is shutting down", RetryAfter: 10 * time.Second}
	}
	return nil
}

func unauthenticated(given bool) error {
	if given {
		return Unauthenticated.Errorf("the API key is not known here")
	}
	return Unauthenticated.Errorf(`send an API key: "Authorization: Bearer KEY"`)
}

func hereHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	return loopback(strings.Trim(host, "[]"))
}

// unrouted answers what the mux has no route for.
func (h *handler) unrouted(w http.ResponseWriter, r *http.Request) {
	probe := &headerProbe{header: http.Header{}}
	h.mux.ServeHTTP(probe, r)
	if allow := probe.header.Get("Allow"); probe.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		WriteError(w, r, method.Errorf("method %.20q is not for this path; use %s", r.Method, allow))
		return
	}
	WriteError(w, r, NotFound.Errorf("there is nothing at %q", printable(r.URL.Path)))
}

// printable cuts what a client sent to what an answer may repeat.
func printable(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}

// headerProbe finds out what the mux would answer.
type headerProbe struct {
	header http.Header
	status int
}

func (p *headerProbe) Header() http.Header         { return p.header }
func (p *headerProbe) Write(b []byte) (int, error) { return len(b), nil }
func (p *headerProbe) WriteHeader(status int)      { p.status = status }

func (h *handler) panicked(rec *recorder, r *http.Request, p any) {
	if p == http.ErrAbortHandler { //nolint:errorlint // this very value, as net/http compares it
		rec.aborted = true
		return
	}
	h.Logger.Error("panic while serving", slog.String("request", RequestID(r.Context())),
		slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	if rec.status == 0 {
		WriteError(rec, r, Internal.Errorf("a bug of the server; its log has more under this request id"))
		return
	}
	rec.aborted = true
}

// done writes the access log. It names no query and no body: both may hold
// what is none of the log's business.
func (h *handler) done(rec *recorder, r *http.Request, f *facts, d time.Duration) {
	if rec.status == 0 {
		rec.status = http.StatusOK
	}
	attrs := []any{
		slog.String("request", f.id), slog.String("method", r.Method), slog.String("path", printable(r.URL.Path)),
		slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("after", d),
		slog.String("remote", r.RemoteAddr), slog.String("who", f.who.Name),
	}
	if f.err != nil {
		attrs = append(attrs, slog.String("code", f.err.Code), slog.String("err", f.err.Message))
	}
	h.Logger.Info("request", attrs...)
	if h.Observe != nil {
		h.Observe(r.Pattern, rec.status, d)
	}
	if f.end != nil {
		f.end(rec.status, f.cause())
	}
	if rec.aborted {
		panic(http.ErrAbortHandler) // net/http cuts the connection, so that nobody takes the answer for whole
	}
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status  int
	bytes   int64
	aborted bool
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Hijack turns the connection into another protocol, which is an answer too.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
