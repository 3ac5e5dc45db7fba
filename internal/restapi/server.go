package restapi

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// Config makes a server. Runtime is required.
type Config struct {
	// Runtime whose boxes are served. The caller closes it after the server.
	Runtime *boxlite.Runtime

	// Keys that TCP clients need one of; nil or empty: none.
	Keys *httpapi.Keys

	// Limits of admission; zero fields have defaults.
	Limits Limits

	// Reaping ends commands that clients leave alone; zero: never.
	Reaping Reaping

	// Host says what of the host may be given to boxes by clients that come
	// over the network.
	Host HostPolicy

	// Private says that the server belongs to one program and ends with it.
	// Boxes made here that are to go when they stop then go with the server
	// even if they never ran: nobody is left who would start them.
	Private bool

	// PathPrefix is accepted between /v1/ and the rest, besides none and
	// "default".
	PathPrefix string

	// Tracing, if set, gets the spans of requests and of what the server does
	// for them. That of the runtime is set where it is opened.
	Tracing Tracing

	// Logger gets the access log and what goes wrong; nil is silent.
	Logger *slog.Logger
}

// HostPolicy says what clients over TCP may ask of the host. Clients of the
// unix socket are the user who runs the server, and may do what that one may.
type HostPolicy struct {
	Dirs             []string // host directories that may be mounted, with what is below
	ReducedIsolation bool     // boxes may run without namespaces of their own
}

// Tracing is told of requests and of steps. The zero value is told nothing.
type Tracing struct {
	Request func(r *http.Request, route, id string) (ctx context.Context, end func(status int, err error))
	Step    boxlite.Tracer
}

// step tells of something that the server does itself.
func (t Tracing) step(ctx context.Context, name, box string) (end func(error)) {
	if t.Step == nil {
		return func(error) {}
	}
	_, done := t.Step(ctx, name, time.Now(), slog.String("box", box))
	return func(err error) { done(time.Now(), err) }
}

// Server serves the REST dialect. Close must be called.
type Server struct {
	cfg      Config
	rt       *boxlite.Runtime
	log      *slog.Logger
	handler  http.Handler
	prefixes []string

	ctx      context.Context //nolint:containedctx // of what outlives requests: it ends with Close
	cancel   context.CancelFunc
	wg       sync.WaitGroup
	draining atomic.Bool

	admission *admission
	sessions  *sessions
	replies   *replies
	metrics   *metrics
	life      *lifecycle
	vault     *vault
	leases    *leases
	unused    *unused
	tunnels   chan struct{} // places of those that are open
}

// New makes a server.
func New(cfg Config) *Server {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, rt: cfg.Runtime, log: cfg.Logger, prefixes: []string{"/v1/default/"}}
	if p := strings.Trim(cfg.PathPrefix, "/"); p != "" {
		s.prefixes = append(s.prefixes, "/v1/"+p+"/")
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.metrics = newMetrics()
	s.admission = newAdmission(cfg.Limits, s.rt, cfg.Tracing)
	s.sessions = newSessions(s)
	s.replies = newReplies()
	s.life = newLifecycle(s)
	s.vault = newVault()
	s.leases = newLeases()
	s.unused = newUnused()
	s.tunnels = make(chan struct{}, maxTunnels)
	s.handler = httpapi.Handler(httpapi.Config{
		Routes:   s.routes(),
		Keys:     cfg.Keys,
		Logger:   cfg.Logger,
		Observe:  s.metrics.observe,
		Trace:    cfg.Tracing.Request,
		Draining: s.draining.Load,
	})
	// They end with Close. To stop a box may take long, which is no reason to leave
	// commands alone.
	s.wg.Go(func() {
		s.every(tickEvery, func(now time.Time) {
			s.sessions.sweep(s.ctx, now)
			s.replies.sweep(now)
		})
	})
	s.wg.Go(func() { s.every(lookEvery, func(now time.Time) { s.life.sweep(s.ctx, now) }) })
	return s
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, p := range s.prefixes {
		if rest, ok := strings.CutPrefix(r.URL.Path, p); ok {
			r2 := *r
			u := *r.URL
			u.Path = "/v1/" + rest
			u.RawPath = ""
			if raw, ok := strings.CutPrefix(r.URL.EscapedPath(), p); ok {
				u.RawPath = "/v1/" + raw
			}
			r2.URL = &u
			r = &r2
			break
		}
	}
	s.handler.ServeHTTP(w, withLease(r))
}

// Drain refuses what would begin something new, ends the sockets that follow
// executions, and stops the boxes that end with this process, saving their
// files, for as long as ctx lives.
func (s *Server) Drain(ctx context.Context) {
	s.draining.Store(true)
	s.stopAttached(ctx)
	s.sessions.closeAll()
}

// stopAttached stops the boxes that would end with the runtime anyway, side by
// side.
func (s *Server) stopAttached(ctx context.Context) {
	infos, err := s.rt.Boxes(ctx)
	if err != nil {
		s.log.Warn("boxes not stopped", slog.Any("err", err))
		return
	}
	var wg sync.WaitGroup
	for _, info := range infos {
		if info.State != boxlite.StateRunning || info.Options.Detach || !s.admission.startedHere(info.ID) {
			continue
		}
		wg.Go(func() {
			b, err := s.rt.Box(ctx, info.ID)
			if err == nil {
				err = b.Stop(ctx)
			}
			if err != nil {
				s.log.Warn("box not stopped", slog.String("box", info.ID), slog.Any("err", err))
			}
		})
	}
	wg.Wait()
}

// Close ends what the server does in the background. Drain comes before it.
func (s *Server) Close() {
	s.draining.Store(true)
	s.cancel()
	s.sessions.closeAll()
	s.wg.Wait()
	s.unused.remove(s)
}

// tickEvery is how often sessions are looked at. That a command ends a few seconds
// late harms nobody.
const tickEvery = 5 * time.Second

// every calls f until the server ends.
func (s *Server) every(d time.Duration, f func(now time.Time)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f(time.Now())
		case <-s.ctx.Done():
			return
		}
	}
}

// routes is every operation there is. api/openapi.yaml describes the same, and
// a test compares them.
func (s *Server) routes() []httpapi.Route {
	return append(s.absent(), []httpapi.Route{
		{Pattern: "GET /healthz", Open: true, Handle: s.healthz},
		{Pattern: "GET /readyz", Open: true, Handle: s.readyz},
		{Pattern: "GET /metrics", Scope: "runtime:read", Handle: s.prometheus},
		{Pattern: "GET /v1/config", Open: true, Handle: s.config},
		{Pattern: "GET /v1/me", Scope: "me:read", Handle: s.me},
		{Pattern: "GET /v1/info", Scope: "runtime:read", Handle: s.info},
		{Pattern: "GET /v1/engines", Scope: "runtime:read", Handle: s.engines},
		{Pattern: "GET /v1/lease", Scope: "box:write", Handle: s.lease},
		{Pattern: "GET /v1/metrics", Scope: "runtime:read", Handle: s.runtimeMetrics},

		{Pattern: "POST /v1/boxes", Scope: "box:write", Handle: s.createBox},
		{Pattern: "GET /v1/boxes", Scope: "box:read", Handle: s.listBoxes},
		{Pattern: "GET /v1/boxes/{id}", Scope: "box:read", Handle: s.getBox}, // HEAD too
		{Pattern: "DELETE /v1/boxes/{id}", Scope: "box:delete", Handle: s.deleteBox},
		{Pattern: "POST /v1/boxes/{id}/start", Scope: "box:write", Handle: s.startBox},
		{Pattern: "POST /v1/boxes/{id}/stop", Scope: "box:write", Handle: s.stopBox},
		{Pattern: "POST /v1/boxes/{id}/sync", Scope: "box:write", Handle: s.syncBox},
		{Pattern: "GET /v1/boxes/{id}/metrics", Scope: "box:read", Handle: s.boxMetrics},
		{Pattern: "GET /v1/boxes/{id}/logs", Scope: "box:read", Handle: s.boxLogs},
		{Pattern: "PUT /v1/boxes/{id}/network", Scope: "box:write", Handle: s.setNetwork},
		{Pattern: "POST /v1/boxes/{id}/network/tunnel", Scope: "box:exec", Handle: s.tunnel},
		{Pattern: "GET /v1/boxes/{id}/network/connect", Scope: "box:exec", Handle: s.connect},
		{Pattern: "GET /v1/boxes/{id}/network/log", Scope: "box:read", Handle: s.networkLog},
		{Pattern: "PUT /v1/boxes/{id}/secrets/{name}", Scope: "box:write", Handle: s.setSecret},
		{Pattern: "GET /v1/boxes/{id}/files", Scope: "box:exec", Handle: s.getFiles},
		{Pattern: "PUT /v1/boxes/{id}/files", Scope: "box:exec", Handle: s.putFiles},
		{Pattern: "GET /v1/boxes/{id}/files/stat", Scope: "box:exec", Handle: s.statFile},
		{Pattern: "GET /v1/boxes/{id}/files/list", Scope: "box:exec", Handle: s.listFiles},
		{Pattern: "GET /v1/boxes/{id}/files/link", Scope: "box:exec", Handle: s.readLink},
		{Pattern: "GET /v1/boxes/{id}/files/content", Scope: "box:exec", Handle: s.readFile},
		{Pattern: "PUT /v1/boxes/{id}/files/content", Scope: "box:exec", Handle: s.writeFile},

		{Pattern: "POST /v1/boxes/{id}/exec", Scope: "box:exec", Handle: s.exec},
		{Pattern: "POST /v1/boxes/{id}/main", Scope: "box:exec", Handle: s.runMain},
		{Pattern: "GET /v1/boxes/{id}/attach", Scope: "box:exec", Handle: s.attachMain},
		{Pattern: "GET /v1/boxes/{id}/executions", Scope: "box:read", Handle: s.listExecutions},
		{Pattern: "GET /v1/boxes/{id}/executions/{eid}", Scope: "box:read", Handle: s.getExecution},
		{Pattern: "DELETE /v1/boxes/{id}/executions/{eid}", Scope: "box:exec", Handle: s.deleteExecution},
		{Pattern: "GET /v1/boxes/{id}/executions/{eid}/attach", Scope: "box:exec", Handle: s.attach},
		{Pattern: "POST /v1/boxes/{id}/executions/{eid}/signal", Scope: "box:exec", Handle: s.signal},
		{Pattern: "POST /v1/boxes/{id}/executions/{eid}/resize", Scope: "box:exec", Handle: s.resize},

		{Pattern: "POST /v1/volumes", Scope: "volume:write", Handle: s.createVolume},
		{Pattern: "GET /v1/volumes", Scope: "volume:read", Handle: s.listVolumes},
		{Pattern: "POST /v1/volumes/prune", Scope: "volume:delete", Handle: s.pruneVolumes},
		{Pattern: "GET /v1/volumes/{id}", Scope: "volume:read", Handle: s.getVolume},
		{Pattern: "DELETE /v1/volumes/{id}", Scope: "volume:delete", Handle: s.removeVolume},

		{Pattern: "POST /v1/images/pull", Scope: "image:write", Handle: s.pullImage},
		{Pattern: "POST /v1/images/load", Scope: "image:write", Handle: s.loadImages},
		{Pattern: "POST /v1/images/import", Scope: "image:write", Handle: s.importImage},
		{Pattern: "POST /v1/images/save", Scope: "image:read", Handle: s.saveImages},
		{Pattern: "POST /v1/images/prune", Scope: "image:write", Handle: s.pruneImages},
		{Pattern: "GET /v1/images", Scope: "image:read", Handle: s.listImages},
		{Pattern: "GET /v1/images/{ref...}", Scope: "image:read", Handle: s.getImage}, // HEAD too
		{Pattern: "DELETE /v1/images/{ref...}", Scope: "image:write", Handle: s.removeImage},
	}...)
}
