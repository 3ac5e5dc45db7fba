package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
)

// mainID is the execution of the main command of a job, as servers call it.
const mainID = "main"

// start starts what c says, and follows it. The server keeps what a command
// writes until it is followed.
func (b *remoteBox) start(c *Cmd) (process, error) {
	var err error
	id, query := c.attach, url.Values{}
	switch {
	case c.main:
		id, err = mainID, b.startMain(c)
	case c.attach != "":
		query = attachQuery(c)
	default:
		id, err = b.startCommand(c)
	}
	if err != nil {
		return nil, err
	}
	p, err := b.follow(c, id, query)
	if err != nil && !c.main && c.attach == "" {
		b.abandon(c.ctx, id)
	}
	return p, err
}

// abandon ends a command that nobody was told of. If that fails, it is because
// the server is gone, or ends what nobody follows.
func (b *remoteBox) abandon(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), controlTimeout)
	defer cancel()
	_ = b.control(ctx, id, order{kill: true})
}

// remoteTimeout is the least time limit of a command that a server takes.
const remoteTimeout = time.Second / 10

func timeoutSeconds(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	s := max(d, remoteTimeout).Seconds()
	return &s
}

func (b *remoteBox) startCommand(c *Cmd) (id string, err error) {
	header, err := b.starting(c.ctx)
	if err != nil {
		return "", err
	}
	req := rest.Exec{
		Command: c.Args[0], Args: c.Args[1:], Env: rest.Env(mergeEnv(c.Env)), TimeoutSeconds: timeoutSeconds(c.Timeout),
		WorkingDir: c.Dir, User: c.User,
	}
	if c.Terminal != nil {
		req.TTY, req.Rows, req.Cols = true, c.Terminal.Rows, c.Terminal.Cols
	} else if c.Stdin == nil {
		req.Stdin = new(string) // a terminal's input has no end; nothing comes of it
	}
	if c.Security != nil {
		req.Limit = securityRequest(*c.Security)
		req.Limit.ReducedIsolation, req.Limit.NetworkEnabled = nil, nil // of boxes
	}
	var reply rest.Started
	err = b.rt.c.JSON(c.ctx, restclient.Request{Method: http.MethodPost, Path: b.path("exec"), Header: header, JSON: req}, &reply)
	return reply.ExecutionID, err
}

// startMain boots a job in the foreground. It ends with its command, or with
// this runtime.
func (b *remoteBox) startMain(c *Cmd) error {
	if err := b.rt.open(); err != nil {
		return err
	}
	header, err := b.rt.leaseHeader(c.ctx)
	if err != nil {
		return err
	}
	req := rest.RunMain{Stdin: c.Stdin != nil, TimeoutSeconds: timeoutSeconds(c.Timeout)}
	if c.Terminal != nil {
		req.Rows, req.Cols = c.Terminal.Rows, c.Terminal.Cols
	}
	return b.rt.c.JSON(c.ctx, restclient.Request{Method: http.MethodPost, Path: b.path("main"), Header: header, JSON: req}, nil)
}

func attachQuery(c *Cmd) url.Values {
	o := c.from
	q := url.Values{"stdin": {strconv.FormatBool(c.Stdin != nil)}, "lossy": {strconv.FormatBool(o.Lossy)}}
	if o.StdoutFrom > 0 {
		q.Set("stdout_offset", strconv.FormatInt(o.StdoutFrom, 10))
	}
	if o.StderrFrom > 0 {
		q.Set("stderr_offset", strconv.FormatInt(o.StderrFrom, 10))
	}
	return q
}

// patience is how long a caller may leave output alone before the server lets
// the command go on without it, in seconds: the most that servers allow. Here a
// writer that is slow slows the command for as long as it likes.
const patience = "3600"

func (b *remoteBox) follow(c *Cmd, id string, query url.Values) (process, error) {
	query.Set("patience", patience)
	query.Set("acks", "true")
	conn, err := b.rt.c.Socket(c.ctx, restclient.Request{Path: b.path("executions", id, "attach"), Query: query})
	if err != nil {
		return nil, err
	}
	return newRemoteProcess(conn, id, c.from.Gap), nil
}

// ended says how a command ended. Its box, if it ends with it, has been stopped
// by the server.
func (b *remoteBox) ended(c *Cmd) error {
	if errors.Is(c.copyErr, io.ErrUnexpectedEOF) {
		return &Error{"exec", b.label(), &cause{ErrUnreachable, fmt.Errorf(
			"server %s: %w; whether the command goes on there is not known, its execution is %s", b.rt.c, c.copyErr, c.ID())}}
	}
	x := c.exit
	if x.Code == 0 && x.Cause == guest.Exited {
		return c.copyErr
	}
	e := &ExitError{Code: x.Code, Signal: x.Signal, Cause: Cause(x.Cause)}
	if p, ok := c.proc.(*remoteProcess); ok {
		e.Reason = p.reason
	}
	return e
}

func (b *remoteBox) control(ctx context.Context, id string, o order) error {
	switch {
	case o.kill:
		o.signal = syscall.SIGKILL
	case o.size != nil:
		return b.rt.post(ctx, rest.Resize{Rows: o.size.Rows, Cols: o.size.Cols}, nil, b.path("executions", id, "resize")...)
	}
	return b.rt.post(ctx, rest.Signal{Signal: int(o.signal)}, nil, b.path("executions", id, "signal")...)
}

func (b *remoteBox) Executions(ctx context.Context) ([]Execution, error) {
	var reply rest.Executions
	if err := b.rt.get(ctx, &reply, nil, b.path("executions")...); err != nil {
		return nil, b.fail("executions", err)
	}
	list := make([]Execution, len(reply.Executions))
	for i, x := range reply.Executions {
		list[i] = executionFrom(x)
	}
	return list, nil
}

func (b *remoteBox) Execution(ctx context.Context, id string) (Execution, error) {
	var x rest.Execution
	if err := b.rt.get(ctx, &x, nil, b.path("executions", id)...); err != nil {
		return Execution{}, b.fail("execution", err)
	}
	return executionFrom(x), nil
}

func executionFrom(x rest.Execution) Execution {
	e := Execution{ID: x.ExecutionID, Args: x.Args, PID: x.PID, TTY: x.TTY, ExitCode: x.ExitCode, Signal: x.Signal, Cause: Cause(x.Cause)}
	if x.StartedAt != nil {
		e.Started = *x.StartedAt
	}
	if x.EndedAt != nil {
		e.Ended = *x.EndedAt
	}
	return e
}
