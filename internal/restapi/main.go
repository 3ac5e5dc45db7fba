package restapi

import (
	"context"
	"net/http"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// runMain starts a job with its main command in the foreground, for a client
// that follows it: the box stops when the command has ended, or when the
// client's lease has. In a box that runs it names the main command.
func (s *Server) runMain(w http.ResponseWriter, r *http.Request) error {
	var req rest.RunMain
	if err := httpapi.Decode(w, r, &req, true); err != nil {
		return err
	}
	timeout, err := seconds("timeout_seconds", req.TimeoutSeconds, 0, minTimeout, maxTimeout)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	release, err := s.admission.exec()
	if err != nil {
		return err
	}
	f := s.sessions.follower(r.Context(), b)
	f.last = true
	cmd := b.Main(f.ctx)
	cmd.Timeout = timeout
	if req.Cols > 0 && req.Rows > 0 {
		cmd.Terminal = &boxlite.Terminal{Rows: req.Rows, Cols: req.Cols}
	}
	started, err := s.launch(r.Context(), b, func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
		defer stop() // from then on the command goes on without the request
		return f.start(cmd, req.Stdin)
	})
	if !started {
		release()
		f.cancel(nil)
	}
	if err != nil {
		return err
	}
	if !started { // it runs already
		httpapi.WriteJSON(w, http.StatusOK, rest.Started{ExecutionID: mainID})
		return nil
	}
	s.sessions.restart(b.ID(), f, release)
	s.metrics.executed(b.ID(), nil)
	if err := s.hold(r.Context(), b, true); err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusCreated, rest.Started{ExecutionID: mainID})
	return nil
}
