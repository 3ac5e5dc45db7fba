package restapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/pattern"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// Bounds of timeout_seconds: the least is that of BoxLite's specification, the
// most a month.
const (
	minTimeout = 100 * time.Millisecond
	maxTimeout = 31 * 24 * time.Hour
)

func (s *Server) exec(w http.ResponseWriter, r *http.Request) error {
	var req rest.Exec
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	timeout, err := seconds("timeout_seconds", req.TimeoutSeconds, 0, minTimeout, maxTimeout)
	if err != nil {
		return err
	}
	if req.Command == "" {
		return httpapi.InvalidArgument.Errorf("command: is missing")
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	var limits *boxlite.SecurityOptions
	if req.Limit != nil {
		l, err := s.security(r.Context(), req.Limit)
		if err != nil {
			return err
		}
		limits = &l
	}
	release, err := s.admission.exec()
	if err != nil {
		return err
	}
	id, err := s.run(r.Context(), b, &req, timeout, limits, release)
	s.metrics.executed(b.ID(), err)
	if err != nil {
		release()
		return err
	}
	httpapi.WriteJSON(w, http.StatusCreated, rest.Started{ExecutionID: id})
	return nil
}

// run starts a command and keeps its stream until a client attaches, so that
// none of its output is lost.
func (s *Server) run(ctx context.Context, b *boxlite.Box, req *rest.Exec, timeout time.Duration, limits *boxlite.SecurityOptions, release func()) (string, error) {
	if err := s.ready(ctx, b); err != nil {
		return "", err
	}
	f := s.sessions.follower(ctx, b)
	cmd := b.Command(f.ctx, req.Command, req.Args...)
	cmd.Env, cmd.Dir, cmd.User, cmd.Timeout, cmd.Security = req.Env, req.WorkingDir, req.User, timeout, limits
	if req.TTY {
		cmd.Terminal = &boxlite.Terminal{Rows: req.Rows, Cols: req.Cols}
	}
	if err := f.start(cmd, true); err != nil {
		return "", err
	}
	x := s.sessions.add(b.ID(), f, release)
	if req.Stdin != nil {
		f.in.put(f.ctx, []byte(*req.Stdin), maxInput)
		f.in.close()
	}
	return x.id, nil
}

// executionRE is what an id of an execution looks like.
var executionRE = pattern.New(`^[a-zA-Z0-9_-]{1,64}$`)

// session finds the execution that the path names.
func (s *Server) session(r *http.Request) (*boxlite.Box, *session, error) {
	b, err := s.box(r)
	if err != nil {
		return nil, nil, err
	}
	s.life.touch(b.ID())
	x, err := s.find(r.Context(), b, r.PathValue("eid"))
	return b, x, err
}

// find returns the session of an execution: one started here, or by somebody
// else in a box that runs.
func (s *Server) find(ctx context.Context, b *boxlite.Box, id string) (*session, error) {
	if !executionRE.MatchString(id) {
		return nil, httpapi.NotFound.Errorf("no execution %.70q", id)
	}
	if x := s.sessions.get(b.ID(), id); x != nil {
		x.touch()
		return x, x.gone()
	}
	if _, err := b.Execution(ctx, id); err != nil {
		if errors.Is(err, boxlite.ErrNotFound) || errors.Is(err, boxlite.ErrState) {
			return nil, &httpapi.Error{Kind: httpapi.NotFound, Message: fmt.Sprintf("no execution %q in box %q", id, b.ID()), Err: err}
		}
		return nil, err
	}
	return s.sessions.adopt(b.ID(), id), nil
}

func (s *Server) getExecution(w http.ResponseWriter, r *http.Request) error {
	b, x, err := s.session(r)
	if err != nil {
		return err
	}
	e, err := b.Execution(r.Context(), x.id)
	switch {
	case err == nil:
		httpapi.WriteJSON(w, http.StatusOK, executionOf(e))
		return nil
	case x.result() != nil:
		httpapi.WriteJSON(w, http.StatusOK, x.reply())
		return nil
	case errors.Is(err, boxlite.ErrState), errors.Is(err, boxlite.ErrNotFound):
		return &httpapi.Error{Kind: httpapi.NotFound, Message: fmt.Sprintf("no execution %q: it ended and is no longer kept", x.id), Err: err}
	}
	return err
}

func (s *Server) listExecutions(w http.ResponseWriter, r *http.Request) error {
	b, err := s.box(r)
	if err != nil {
		return err
	}
	info, err := b.Info(r.Context())
	if err != nil {
		return err
	}
	reply := rest.Executions{Executions: []rest.Execution{}}
	if info.State == boxlite.StateRunning {
		list, err := b.Executions(r.Context())
		if err != nil {
			return err
		}
		for _, e := range list {
			reply.Executions = append(reply.Executions, executionOf(e))
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// executionOf is what the agent knows of an execution as clients see it.
func executionOf(e boxlite.Execution) rest.Execution {
	reply := rest.Execution{
		ExecutionID: e.ID, Status: "running", StartedAt: when(e.Started), ExitCode: e.ExitCode,
		Signal: e.Signal, Cause: string(e.Cause), Args: e.Args, PID: e.PID, TTY: e.TTY, EndedAt: when(e.Ended),
	}
	if e.ExitCode != nil {
		took := e.Ended.Sub(e.Started).Milliseconds()
		reply.DurationMS, reply.Status = &took, statusOf(e.Cause)
		reply.ErrorMessage = message(e.Cause, e.Signal, "")
	}
	return reply
}

// statusOf is the word of the wire for how an execution ended.
func statusOf(c boxlite.Cause) string {
	switch c {
	case boxlite.CauseExited:
		return "completed"
	case boxlite.CauseTimeout:
		return "timed_out"
	}
	return "killed"
}

// message says why a command did not exit by itself.
func message(c boxlite.Cause, signal int, reason string) string {
	if c == boxlite.CauseExited {
		return ""
	}
	e := boxlite.ExitError{Cause: c, Signal: signal, Reason: reason}
	return e.Error()
}

// deleteExecution kills an execution and all it started. Sockets that follow
// it get its exit; from then on it is not known any more.
func (s *Server) deleteExecution(w http.ResponseWriter, r *http.Request) error {
	b, x, err := s.session(r)
	if err != nil {
		return err
	}
	err = b.Attach(r.Context(), x.id).Kill()
	if err != nil && !errors.Is(err, boxlite.ErrNotFound) && !errors.Is(err, boxlite.ErrState) {
		return err
	}
	x.delete()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// signals are those that may be sent: what BoxLite's specification allows, by
// number on Linux.
var signals = []syscall.Signal{
	syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGABRT, syscall.SIGKILL, syscall.SIGUSR1,
	syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGWINCH,
}

func checkSignal(n int) error {
	if !slices.Contains(signals, syscall.Signal(n)) {
		return httpapi.InvalidArgument.Errorf("signal %d: give one of 1 2 3 6 9 10 12 15 18 19 20 28", n)
	}
	return nil
}

func (s *Server) signal(w http.ResponseWriter, r *http.Request) error {
	var req rest.Signal
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	if err := checkSignal(req.Signal); err != nil {
		return err
	}
	return s.control(w, r, func(c *boxlite.Cmd) error { return sendSignal(c, req.Signal) })
}

// sendSignal sends a signal; SIGKILL ends everything the command started.
func sendSignal(c controls, n int) error {
	if syscall.Signal(n) == syscall.SIGKILL {
		return c.Kill()
	}
	return c.Signal(syscall.Signal(n))
}

func (s *Server) resize(w http.ResponseWriter, r *http.Request) error {
	var req rest.Resize
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	if err := checkSize(req.Rows, req.Cols); err != nil {
		return err
	}
	return s.control(w, r, func(c *boxlite.Cmd) error { return c.Resize(req.Rows, req.Cols) })
}

func checkSize(rows, cols uint16) error {
	if cols == 0 || rows == 0 {
		return httpapi.InvalidArgument.Errorf("cols %d, rows %d: give 1 to 65535 each", cols, rows)
	}
	return nil
}

// control does something to an execution. One that ended is no error.
func (s *Server) control(w http.ResponseWriter, r *http.Request, f func(*boxlite.Cmd) error) error {
	b, x, err := s.session(r)
	if err != nil {
		return err
	}
	if err := f(b.Attach(r.Context(), x.id)); err != nil && x.result() == nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
