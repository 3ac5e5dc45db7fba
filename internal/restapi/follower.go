package restapi

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// sink takes output for one socket. send returns when the socket has it.
type sink interface {
	send(channel byte, p []byte) error
	gap(stderr bool, from, to int64)
}

// follower is one stream of output from an execution, and where it goes. With
// no socket to go to it waits, and the execution with it once what the agent
// keeps is full: so nothing is lost until a client comes, for as long as hold.
type follower struct {
	b      *boxlite.Box
	cmd    *boxlite.Cmd
	in     *input          // nil: none
	ctx    context.Context //nolint:containedctx // the life of the stream
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the stream has ended
	exit   *exit         // valid after done; nil: let go of before the exit
	last   bool          // the box ends with it, and may be gone then

	mu    sync.Mutex
	wake  sync.Cond // broadcast at each change of what follows
	to    sink      // nil: nobody
	open  bool      // let go of: discard what comes
	fresh bool      // nothing has been sent to anybody
	timer *time.Timer
}

// exit is how an execution ended.
type exit struct {
	code   int
	signal int
	cause  boxlite.Cause
	reason string
}

// errLetGo ends a stream that nobody follows any more: nothing failed.
var errLetGo = fmt.Errorf("nobody follows the command any more: %w", context.Canceled)

// hold is how long a command waits for a client to come, or to come back,
// before its output may pass by: long enough for a reconnect, short enough
// that a command nobody listens to is soon left alone.
const hold = 10 * time.Second

func newFollower(ctx context.Context, b *boxlite.Box) *follower {
	f := &follower{b: b, done: make(chan struct{}), fresh: true}
	f.wake.L = &f.mu
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	return f
}

// start starts or attaches to the command. The goroutine that waits for it
// ends with the stream; done is closed then.
func (f *follower) start(cmd *boxlite.Cmd, stdin bool) error {
	f.cmd = cmd
	cmd.Stdout, cmd.Stderr = &outlet{f, rest.Stdout}, &outlet{f, rest.Stderr}
	if stdin {
		f.in = newInput()
		cmd.Stdin = f.in
	}
	if err := cmd.Start(); err != nil {
		f.cancel(nil)
		return err
	}
	return nil
}

// wait waits for the end of the stream and remembers how the command ended.
// Where the box ends with that it waits for a client first, for as long as
// hold: one that comes to a command that wrote nothing would find no box.
func (f *follower) wait() {
	if f.last {
		f.target()
	}
	err := f.cmd.Wait()
	if f.exit = exitOf(err); f.exit == nil && f.ctx.Err() == nil {
		f.exit = f.ask()
	}
	f.mu.Lock()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	if f.in != nil {
		f.in.end()
	}
	close(f.done)
	f.cancel(nil)
}

// exitOf is how a command ended, by what Wait returned. It is nil when that is
// not known.
func exitOf(err error) *exit {
	x := &exit{cause: boxlite.CauseExited}
	e, ok := errors.AsType[*boxlite.ExitError](err)
	switch {
	case err == nil:
	case ok:
		x.code, x.signal, x.cause, x.reason = e.Code, e.Signal, e.Cause, e.Reason
	default:
		return nil
	}
	return x
}

// ask asks the box how the command ended, when the stream broke before it said
// so, or had more to say.
func (f *follower) ask() *exit {
	e, err := f.b.Execution(f.ctx, f.cmd.ID())
	if err != nil || e.ExitCode == nil {
		return nil
	}
	return exitKnown(e)
}

// exitKnown is the end of an execution that has ended.
func exitKnown(e boxlite.Execution) *exit {
	return &exit{code: *e.ExitCode, signal: e.Signal, cause: e.Cause}
}

// outlet is one output of a follower.
type outlet struct {
	f       *follower
	channel byte
}

// Write waits until a socket has taken p. It never fails: what one socket did
// not take waits for the next, or is discarded when there will be none.
func (o *outlet) Write(p []byte) (int, error) {
	f := o.f
	for {
		to := f.target()
		if to == nil {
			return len(p), nil
		}
		if err := to.send(o.channel, p); err == nil {
			return len(p), nil
		}
		f.lost(to)
	}
}

// target waits for somebody to send to; nil means nobody, ever.
func (f *follower) target() sink {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.to == nil && !f.open {
		f.wake.Wait()
	}
	if f.open {
		return nil
	}
	f.fresh = false
	return f.to
}

func (f *follower) lost(to sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to == to {
		f.to = nil
	}
}

// gap passes on that output is missing.
func (f *follower) gap(stderr bool, from, to int64) {
	if k := f.target(); k != nil {
		k.gap(stderr, from, to)
	}
}

// join sends what comes to a socket.
func (f *follower) join(to sink) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.timer != nil {
		f.timer.Stop()
	}
	f.to = to
	f.wake.Broadcast()
}

// park takes the socket away and waits for another, for as long as hold.
func (f *follower) park() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = nil
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer = time.AfterFunc(hold, f.retire)
}

// retire ends the stream once the command has been given the input that waits
// for it, which its client believes is sent. Output is discarded meanwhile.
func (f *follower) retire() {
	f.pass()
	if f.in == nil {
		f.cancel(errLetGo)
		return
	}
	f.in.drained(func() { f.cancel(errLetGo) })
}

// letGo ends the stream at once. The command goes on.
func (f *follower) letGo() {
	f.pass()
	f.cancel(errLetGo)
}

// pass lets output go by from now on.
func (f *follower) pass() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open, f.to = true, nil
	f.wake.Broadcast()
}

// untouched tells whether all the output is still to come.
func (f *follower) untouched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh && f.to == nil && !f.open
}
