package boxlite

import (
	"context"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// AttachOptions say from where to follow an execution. The zero value replays
// all that is kept, and loses nothing from then on.
type AttachOptions struct {
	// StdoutFrom and StderrFrom are offsets in the whole of each output, for
	// one who has what comes before. An offset that has not been reached yet
	// counts as the end.
	StdoutFrom, StderrFrom int64

	// Lossy lets a slow reader fall behind and miss output. Otherwise it holds
	// up the command.
	Lossy bool

	// Gap, if set, is told of output that is no longer kept: bytes from one
	// offset to another. It is called by the goroutine that writes to Stdout
	// and Stderr, at the place where they are missing.
	Gap func(stderr bool, from, to int64)
}

func attachOption(o []AttachOptions) AttachOptions {
	if len(o) > 0 {
		return o[0]
	}
	return AttachOptions{}
}

// startAttach opens a stream to an execution that another call started.
func (c *Cmd) startAttach() (*guest.Process, error) {
	o := c.from
	p, err := guest.NewClient(c.box.shim().Dial).Attach(c.ctx, c.attach, guest.AttachOptions{
		StdoutFrom: o.StdoutFrom, StderrFrom: o.StderrFrom, Lossy: o.Lossy, Stdin: c.Stdin != nil,
	})
	if err == nil && o.Gap != nil {
		p.OnGap(func(g guest.Gap) { o.Gap(g.Stderr, g.From, g.To) })
	}
	return p, err
}

// Execution tells about one command of a running box. The error is
// [ErrNotFound] when the box does not know the id, or no longer.
func (b *Box) Execution(ctx context.Context, id string) (Execution, error) {
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
