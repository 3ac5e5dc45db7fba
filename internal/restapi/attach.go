package restapi

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/coder/websocket"
)

// mainID is the execution of the main command of a job.
const mainID = "main"

// attachMain follows the main command of a job.
func (s *Server) attachMain(w http.ResponseWriter, r *http.Request) error {
	b, err := s.box(r)
	if err != nil {
		return err
	}
	s.life.touch(b.ID())
	info, err := b.Info(r.Context())
	if err != nil {
		return err
	}
	if o := info.Options; len(o.Entrypoint)+len(o.Cmd) == 0 {
		return httpapi.InvalidState.Errorf("box %q has no main command; it was made without cmd and entrypoint", b.ID())
	}
	if info.State != boxlite.StateRunning {
		return httpapi.InvalidState.Errorf("box %q is %s; start it first", b.ID(), info.State)
	}
	x, err := s.find(r.Context(), b, mainID)
	if err != nil {
		return err
	}
	w.Header().Set("X-Boxlite-Execution-Id", mainID)
	return s.serveAttach(w, r, b, x)
}

func (s *Server) attach(w http.ResponseWriter, r *http.Request) error {
	b, x, err := s.session(r)
	if err != nil {
		return err
	}
	return s.serveAttach(w, r, b, x)
}

// wish is what the query of an attach asks for.
type wish struct {
	write   bool
	from    boxlite.AttachOptions
	offsets bool // the client counts bytes, and wants to be told of gaps

	acks bool // the client wants to be told how much of its input was taken

	// patience is how long the client may take nothing, and answer nothing,
	// before its command goes on without it. Less than the common times counts
	// as those.
	patience time.Duration
}

// maxPatience bounds patience. A client that reads so slowly waits for a
// person; one that has gone is noticed by the kernel.
const maxPatience = time.Hour

func wishOf(r *http.Request) (wish, error) {
	var o wish
	var err error
	if o.write, err = boolQuery(r, "stdin", true); err != nil {
		return o, err
	}
	for _, q := range []struct {
		name string
		to   *int64
	}{{"stdout_offset", &o.from.StdoutFrom}, {"stderr_offset", &o.from.StderrFrom}} {
		v := r.URL.Query().Get(q.name)
		if v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return o, httpapi.InvalidArgument.Errorf("%s %.40q: give a number of bytes", q.name, v)
		}
		*q.to, o.offsets = n, true
	}
	if v := r.URL.Query().Get("patience"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > int(maxPatience.Seconds()) {
			return o, httpapi.InvalidArgument.Errorf("patience %.40q: give 0 to %v seconds", v, maxPatience.Seconds())
		}
		o.patience = time.Duration(n) * time.Second
	}
	if o.acks, err = boolQuery(r, "acks", false); err != nil {
		return o, err
	}
	o.from.Lossy, err = boolQuery(r, "lossy", !o.write)
	return o, err
}

// wantUpgrade refuses what is no upgrade to a WebSocket.
func wantUpgrade(w http.ResponseWriter, r *http.Request, what string) error {
	if headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket") {
		return nil
	}
	w.Header().Set("Upgrade", "websocket")
	return httpapi.InvalidArgument.Errorf("%s is a WebSocket: send the request as an upgrade", what)
}

// serveAttach upgrades to WebSocket and follows an execution until it or the
// socket ends. What can be refused is refused before the upgrade.
func (s *Server) serveAttach(w http.ResponseWriter, r *http.Request, b *boxlite.Box, x *session) error {
	o, err := wishOf(r)
	if err != nil {
		return err
	}
	if err := wantUpgrade(w, r, "attach"); err != nil {
		return err
	}
	k := newSocket(s.ctx, x, o, func() controls { return b.Attach(s.ctx, x.id) })
	defer k.cancel()
	if o.write {
		if err := x.claim(k); err != nil {
			return err
		}
	}
	defer x.leave(k)
	if err := x.enter(k); err != nil {
		return err
	}
	f, err := s.stream(r.Context(), b, k)
	if err != nil {
		return err
	}
	to := &hijacked{ResponseWriter: w}
	conn, err := websocket.Accept(to, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil { // it has been answered
		x.keep(k, f)
		return nil
	}
	endIfDead(to.conn, max(lineTimeout, o.patience))
	s.metrics.sockets.Add(1)
	defer s.metrics.sockets.Add(-1)
	k.serve(conn, f)
	return nil
}

// stream finds or opens the stream that a socket follows. It is nil for an
// execution that is known to have ended and whose box keeps no output of it.
func (s *Server) stream(ctx context.Context, b *boxlite.Box, k *socket) (*follower, error) {
	x := k.x
	if f := x.unpark(k); f != nil {
		return f, nil
	}
	f := s.sessions.follower(ctx, b)
	from := k.wish.from
	from.Gap = f.gap
	if err := f.start(b.Attach(f.ctx, x.id, from), k.wish.write); err != nil {
		if x.result() != nil {
			return nil, nil
		}
		return nil, err
	}
	s.sessions.watch(x, f)
	if k.wish.write {
		x.succeed()
	}
	return f, nil
}
