package boxlite

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/shim"
)

// Tracer is told what a runtime does for its callers, step by step, so that
// the steps can become spans of a trace: box.create, box.start, image.pull,
// machine.boot, exec and others. It is called at the beginning of a step with
// the context of the caller, and returns the context for what the step does
// itself, in which further steps are its children, and a function that is
// called once, when the step has ended. facts say what the step is about, by
// the keys the log has.
//
// Both may be called by any goroutine and must not wait. A step that another
// process has measured is told afterwards, so begin and at may be in the past.
// An exec lasts from [Cmd.Start] to the end of the command or of its stream,
// and ends with an [*ExitError] if it has exited with anything but 0.
type Tracer func(ctx context.Context, step string, begin time.Time, facts ...slog.Attr) (within context.Context, end func(at time.Time, err error))

// noStep is the end of a step that nobody is told of.
func noStep(error) {}

// step tells that a step begins now. The caller calls end; only the first call
// counts.
func (t Tracer) step(ctx context.Context, name string, facts ...slog.Attr) (within context.Context, end func(error)) {
	if t == nil {
		return ctx, noStep
	}
	ctx, done := t(ctx, name, time.Now(), facts...)
	var once sync.Once
	return ctx, func(err error) { once.Do(func() { done(time.Now(), err) }) }
}

func (b *localBox) step(ctx context.Context, name string) (within context.Context, end func(error)) {
	if b.rt.trace == nil { // before the fact is made
		return ctx, noStep
	}
	return b.rt.trace.step(ctx, name, slog.String("box", b.id))
}

// booted tells what a shim has measured.
func (b *localBox) booted(ctx context.Context, p *shim.Process) {
	if b.rt.trace == nil || p.BootEnd.IsZero() {
		return
	}
	_, end := b.rt.trace(ctx, "machine.boot", p.BootBegin, slog.String("box", b.id), slog.String("engine", b.rt.engine))
	end(p.BootEnd, nil)
}
