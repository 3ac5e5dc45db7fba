package restapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/pattern"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// keyRE is what an id, a name or the beginning of an id looks like. All else
// names no box, whatever it tries to be.
var keyRE = pattern.New(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`)

// box finds the box that the path names.
func (s *Server) box(r *http.Request) (*boxlite.Box, error) {
	key := r.PathValue("id")
	if !keyRE.MatchString(key) {
		return nil, httpapi.NotFound.Errorf("no box %.130q", key)
	}
	b, err := s.rt.Box(r.Context(), key)
	if errors.Is(err, boxlite.ErrNotFound) {
		return nil, httpapi.NotFound.Errorf("no box %q", key)
	}
	if err != nil {
		return nil, err
	}
	s.life.meet(b.ID())
	return b, nil
}

func (s *Server) createBox(w http.ResponseWriter, r *http.Request) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var req rest.CreateBox
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	return s.replies.once(w, r, key, req, func() (*rest.Box, error) { return s.create(r.Context(), &req) })
}

func (s *Server) create(ctx context.Context, req *rest.CreateBox) (*rest.Box, error) {
	o, err := s.options(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.admission.newBox(ctx, o); err != nil {
		return nil, err
	}
	b, err := s.rt.Create(ctx, o)
	s.metrics.created(err)
	if err != nil {
		return nil, err
	}
	s.life.meet(b.ID())
	if s.cfg.Private && o.AutoRemove && !o.Detach {
		s.unused.add(b.ID())
	}
	for _, secret := range o.Secrets {
		s.vault.put(b.ID(), secret.Name, secret.Value)
	}
	info, err := b.Info(ctx)
	if err != nil {
		return nil, err
	}
	reply := boxOf(info)
	return &reply, nil
}

// Bounds of a page of boxes, as BoxLite's specification has them.
const (
	defaultPage = 100
	maxPage     = 1000
)

func (s *Server) listBoxes(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	size := defaultPage
	if v := q.Get("pageSize"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxPage {
			return httpapi.InvalidArgument.Errorf("pageSize %q: give 1 to %d", v, maxPage)
		}
		size = n
	}
	state := boxlite.State(q.Get("status"))
	if state != "" && !validState(state) {
		return httpapi.InvalidArgument.Errorf("status %q: there are configured, running, paused, stopping, stopped and failed", state)
	}
	details, err := boolQuery(r, "details", false)
	if err != nil {
		return err
	}
	after := q.Get("pageToken")
	infos, err := s.rt.Boxes(r.Context())
	if err != nil {
		return err
	}
	reply, err := page(infos, state, after, size, details)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// page is what comes after the box of an id: boxes are listed oldest first, and
// new ones come at the end.
func page(infos []boxlite.BoxInfo, state boxlite.State, after string, size int, details bool) (rest.Boxes, error) {
	reply := rest.Boxes{Boxes: []rest.Box{}}
	found := after == ""
	for _, i := range infos {
		switch {
		case !found:
			found = i.ID == after
		case state != "" && i.State != state:
		case len(reply.Boxes) == size:
			reply.NextPageToken = reply.Boxes[size-1].BoxID
			return reply, nil
		default:
			reply.Boxes = append(reply.Boxes, boxOf(i))
			if details {
				reply.Boxes[len(reply.Boxes)-1].Details = detailsOf(i)
			}
		}
	}
	if !found {
		return reply, httpapi.InvalidArgument.Errorf("pageToken %.130q: the box it stands for is gone; list from the beginning", after)
	}
	return reply, nil
}

func validState(s boxlite.State) bool {
	switch s {
	case boxlite.StateConfigured, boxlite.StateRunning, boxlite.StatePaused, boxlite.StateStopping, boxlite.StateStopped, boxlite.StateFailed:
		return true
	}
	return false
}

func (s *Server) getBox(w http.ResponseWriter, r *http.Request) error {
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	details, err := boolQuery(r, "details", false)
	if err != nil {
		return err
	}
	info, err := b.Info(r.Context())
	if err != nil {
		return err
	}
	reply := boxOf(info)
	if details {
		reply.Details = detailsOf(info)
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

func (s *Server) replyBox(w http.ResponseWriter, ctx context.Context, b *boxlite.Box) error { //nolint:revive // w first, as in net/http
	info, err := b.Info(ctx)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, boxOf(info))
	return nil
}

func (s *Server) deleteBox(w http.ResponseWriter, r *http.Request) error {
	force, err := boolQuery(r, "force", false)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if force {
		s.sessions.release(b.ID())
	}
	// Half of it must not be left because a client hung up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), removeTimeout)
	defer cancel()
	if err := b.Remove(ctx, boxlite.RemoveOptions{Force: force}); err != nil {
		return err
	}
	s.forget(b.ID())
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// forget drops what the server knows of a box that is gone.
func (s *Server) forget(id string) {
	s.admission.stopped(id)
	s.sessions.forget(id)
	s.life.forget(id)
	s.vault.forget(id)
	s.unused.forget(id)
	s.metrics.forget(id)
	s.leases.own(id, "")
}

// removeTimeout bounds the removal of a box: a forced stop and deleting files.
const removeTimeout = 2 * time.Minute

// startBox starts a box; when that is only implied by what a client is about to
// do, then by the rules for that.
func (s *Server) startBox(w http.ResponseWriter, r *http.Request) error {
	implied, err := boolQuery(r, "implied", false)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	start := s.start
	if implied {
		start = s.ready
	}
	if err := start(r.Context(), b); err != nil {
		return err
	}
	return s.replyBox(w, r.Context(), b)
}

// start starts a box when it is its turn. What is wrong with its image is said
// as that.
func (s *Server) start(ctx context.Context, b *boxlite.Box) error {
	started, err := s.launch(ctx, b, b.Start)
	if started {
		err = s.hold(ctx, b, false)
	}
	return err
}

// launch boots a box with boot when it is its turn. It is not started when it
// runs already.
func (s *Server) launch(ctx context.Context, b *boxlite.Box, boot func(context.Context) error) (started bool, err error) {
	s.life.touch(b.ID())
	release, err := s.admission.start(ctx, b)
	if err != nil || release == nil {
		return false, err
	}
	begun := time.Now()
	if err = s.mayStart(ctx, b); err == nil {
		err = s.vault.open(b)
	}
	if err == nil {
		err = boot(ctx)
	}
	release(err == nil)
	if err == nil {
		s.unused.forget(b.ID())
	}
	s.metrics.started(b.ID(), time.Since(begun), err)
	return err == nil, startError(ctx, b, err)
}

// startError tells an image that cannot be had from a box that is not there.
func startError(ctx context.Context, b *boxlite.Box, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, boxlite.ErrUnauthorized), errors.Is(err, boxlite.ErrUnreachable), errors.Is(err, boxlite.ErrImage):
	case errors.Is(err, boxlite.ErrNotFound):
		if _, ok := errors.AsType[*boxlite.CommandError](err); ok {
			return err
		}
		if _, gone := b.Info(ctx); gone != nil {
			return err
		}
	default:
		return err
	}
	return &httpapi.Error{Kind: httpapi.Image, Message: err.Error(), Err: err}
}

// ready sees to it that a box runs, for what needs a running one. A job is only
// started when that is asked for, and so is a box that may not resume.
func (s *Server) ready(ctx context.Context, b *boxlite.Box) error {
	s.life.touch(b.ID())
	info, err := b.Info(ctx)
	if err != nil {
		return err
	}
	o := info.Options
	switch {
	case info.State == boxlite.StateRunning:
		return nil
	case len(o.Entrypoint)+len(o.Cmd) > 0:
		return httpapi.InvalidState.Errorf("box %q has a main command and is %s; start it first", b.ID(), info.State)
	case info.State == boxlite.StateStopped && !termsOf(o.Labels).resume:
		return httpapi.InvalidState.Errorf("box %q is stopped and was made with auto_resume false; start it first", b.ID())
	}
	return s.start(ctx, b)
}

// stopTimeout is how long a stop may take when the client says nothing: what
// BoxLite's specification has.
const stopTimeout = 30 * time.Second

// Bounds of what a client may ask for. Less than the least is none: what runs is
// killed, and saving takes the time that it takes.
const (
	leastStop = time.Second
	maxStop   = time.Hour
)

func (s *Server) stopBox(w http.ResponseWriter, r *http.Request) error {
	var req rest.Stop
	if err := httpapi.Decode(w, r, &req, true); err != nil {
		return err
	}
	timeout, err := seconds("timeout_seconds", req.TimeoutSeconds, stopTimeout, 0, maxStop)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	before, err := b.Info(r.Context())
	if err != nil {
		return err
	}
	if err := s.stop(r.Context(), b, timeout); err != nil {
		return err
	}
	info, err := b.Info(r.Context())
	if errors.Is(err, boxlite.ErrNotFound) { // it removed itself
		s.forget(b.ID())
		before.State, before.PID, info, err = boxlite.StateStopped, 0, before, nil
	}
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, boxOf(info))
	return nil
}

// stop ends a box. Half of the time until the deadline is the grace of its
// commands, the other half is for saving its files.
func (s *Server) stop(ctx context.Context, b *boxlite.Box, timeout time.Duration) error {
	s.sessions.release(b.ID())
	if timeout < leastStop {
		timeout = stopTimeout
		killAll(ctx, b)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*timeout)
	defer cancel()
	err := b.Stop(ctx)
	if err == nil {
		s.admission.stopped(b.ID())
		s.metrics.stopped()
	}
	return err
}

func (s *Server) syncBox(w http.ResponseWriter, r *http.Request) error {
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := b.Sync(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func boolQuery(r *http.Request, name string, def bool) (bool, error) {
	switch v := r.URL.Query().Get(name); v {
	case "":
		return def, nil
	case "1", "true":
		return true, nil
	case "0", "false":
		return false, nil
	default:
		return false, httpapi.InvalidArgument.Errorf("%s %.40q: give true or false", name, v)
	}
}

// seconds turns what a client gave into a duration within bounds.
func seconds(field string, v *float64, def, least, most time.Duration) (time.Duration, error) {
	if v == nil {
		return def, nil
	}
	if !(*v >= least.Seconds() && *v <= most.Seconds()) { // not a number is neither
		return 0, httpapi.InvalidArgument.Errorf("%s %v: give %v to %v", field, *v, least.Seconds(), most.Seconds())
	}
	return time.Duration(*v * float64(time.Second)), nil
}

func (s *Server) boxLogs(w http.ResponseWriter, r *http.Request) error {
	o := boxlite.LogOptions{}
	if v := r.URL.Query().Get("tail"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return httpapi.InvalidArgument.Errorf("tail %.40q: give a number of lines", v)
		}
		o.Tail = n
	}
	var err error
	if o.Follow, err = boolQuery(r, "follow", false); err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	logs, err := b.Logs(r.Context(), o)
	if err != nil {
		return err
	}
	defer logs.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if err := copyOut(w, logs, true); err != nil {
		panic(http.ErrAbortHandler) // the answer is not whole: cut it
	}
	return nil
}
