package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/shim"
)

// start starts what c says.
func (b *localBox) start(c *Cmd) (process, error) {
	name := "exec"
	if c.attach != "" {
		name = "exec.attach"
	}
	c.ctx, c.end = b.step(c.ctx, name)
	_, started := b.step(c.ctx, name+".start")
	p, err := b.begin(c)
	started(err)
	if err != nil {
		c.end(err)
		return nil, commandErr(err) // not p: a nil one is no nil interface
	}
	return p, nil
}

func (b *localBox) begin(c *Cmd) (p *guest.Process, err error) {
	switch {
	case c.main:
		p, err = b.startMain(c)
	case c.attach != "":
		p, err = b.startAttach(c)
	default:
		p, err = b.startCommand(c)
	}
	return p, err
}

func (b *localBox) startCommand(c *Cmd) (*guest.Process, error) {
	config, err := b.imageConfig(c.ctx)
	if err != nil {
		return nil, err
	}
	g := b.guestCommand(config, c.Args, c.Env, c.Dir, c.User)
	g.Stdin, g.Timeout = c.Stdin != nil, c.Timeout
	if c.Terminal != nil {
		g.TTY = &guest.Size{Rows: c.Terminal.Rows, Cols: c.Terminal.Cols}
	}
	if c.Security != nil {
		g.Limits = limits(*c.Security)
	}
	return b.guest().Start(c.ctx, g)
}

// startMain boots a job in the foreground, or attaches to one that runs.
func (b *localBox) startMain(c *Cmd) (*guest.Process, error) {
	if !b.options.job() {
		return nil, fmt.Errorf("%w: the box has no main command", ErrState)
	}
	client := guest.NewClient(b.shim().Dial)
	if run, err := b.shim().Status(c.ctx); err == nil && run.State == shim.Running {
		c.main = false
		return client.Attach(c.ctx, shim.MainID, guest.AttachOptions{Stdin: c.Stdin != nil})
	}
	if err := b.boot(c.ctx, true); err != nil {
		return nil, err
	}
	g, err := b.mainCommand(c.Terminal)
	if err != nil {
		return nil, errors.Join(err, b.stopMain(c.ctx))
	}
	c.Args, g.Stdin, g.Timeout = g.Args, c.Stdin != nil, c.Timeout
	p, err := client.Start(c.ctx, g)
	if err == nil && !b.options.AutoRemove {
		if err = b.shim().Follow(c.ctx); err != nil {
			_ = p.Close()
		}
	}
	if err != nil {
		return nil, errors.Join(commandErr(err), b.stopMain(c.ctx))
	}
	return p, nil
}

// stopMain stops the box of a foreground main command, whatever ctx says.
func (b *localBox) stopMain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return b.stop(ctx, shim.StopOptions{Grace: time.Second})
}

// startAttach opens a stream to an execution that another call started.
func (b *localBox) startAttach(c *Cmd) (*guest.Process, error) {
	o := c.from
	p, err := guest.NewClient(b.shim().Dial).Attach(c.ctx, c.attach, guest.AttachOptions{
		StdoutFrom: o.StdoutFrom, StderrFrom: o.StderrFrom, Lossy: o.Lossy, Stdin: c.Stdin != nil,
	})
	if err == nil && o.Gap != nil {
		p.OnGap(func(g guest.Gap) { o.Gap(g.Stderr, g.From, g.To) })
	}
	return p, err
}

// ended says how a command ended, and stops the box with its main command.
func (b *localBox) ended(c *Cmd) error {
	err := b.result(c)
	if c.main {
		if e := b.stopMain(c.ctx); e != nil && !errors.Is(err, ErrBoxDied) {
			err = errors.Join(err, b.fail("stop", e))
		}
	}
	return err
}

func (b *localBox) result(c *Cmd) error {
	if errors.Is(c.copyErr, io.ErrUnexpectedEOF) {
		return b.died(c.ctx)
	}
	x := c.exit
	e := &ExitError{Code: x.Code, Signal: x.Signal, Cause: Cause(x.Cause)}
	switch {
	case x.Code == 0 && x.Cause == guest.Exited:
		return c.copyErr
	case x.Cause == guest.Signaled && x.Signal == int(syscall.SIGKILL) && !x.Killed:
		return b.killed(c.ctx, e)
	}
	return e
}

func (b *localBox) control(ctx context.Context, id string, o order) error {
	g := guest.NewClient(b.shim().Dial)
	switch {
	case o.kill:
		return guestErr(g.Kill(ctx, id))
	case o.size != nil:
		return guestErr(g.Resize(ctx, id, guest.Size{Rows: o.size.Rows, Cols: o.size.Cols}))
	}
	return guestErr(g.Signal(ctx, id, int(o.signal)))
}

func (b *localBox) Execution(ctx context.Context, id string) (Execution, error) {
	x, err := guest.NewClient(b.shim().Dial).Execution(ctx, id)
	if err != nil {
		return Execution{}, b.fail("execution", guestErr(err))
	}
	return publicExecution(x), nil
}

func publicExecution(x guest.Execution) Execution {
	e := Execution{ID: x.ID, Args: x.Args, PID: x.PID, TTY: x.TTY, Started: x.Started}
	if x.Exit != nil {
		e.ExitCode, e.Signal, e.Cause, e.Ended = &x.Exit.Code, x.Exit.Signal, Cause(x.Exit.Cause), x.Exit.Time
	}
	return e
}
