package boxlite

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

	"github.com/boxlite-go/boxlite/egress"
)

// Box is a handle of a box. Any number of handles, in any number of processes,
// may stand for the same box. It is safe for concurrent use and needs no
// closing.
//
// What needs a running box starts it: [Cmd.Start], copying, files. Only a box
// that was stopped through this handle, and a job, whose start would run its
// main command, must be started by Start; until then the error is [ErrState].
type Box struct {
	id   string
	name string
	log  *slog.Logger
	on   boxBackend
}

// ID of the box: unique and constant.
func (b *Box) ID() string { return b.id }

// Name of the box, or empty.
func (b *Box) Name() string { return b.name }

// Info tells what is known of the box now. The error is [ErrNotFound] when it
// was removed.
func (b *Box) Info(ctx context.Context) (BoxInfo, error) { return b.on.Info(ctx) }

// Start boots the box, pulling its image if needed, and starts the main
// command of a job. A box that runs is left as it is. When ctx ends first,
// what was begun is undone.
func (b *Box) Start(ctx context.Context) error { return b.on.Start(ctx) }

// Stop ends everything in the box and saves its files; the error says so when
// they cannot be saved: then the box has those of the last save. Commands get
// SIGTERM, and SIGKILL after ten seconds, or after half of the time until the deadline
// of ctx; the other half is for saving. A box that does not run is stopped
// already. A box with AutoRemove is deleted.
func (b *Box) Stop(ctx context.Context) error { return b.on.Stop(ctx) }

// Remove deletes the box and all it wrote. The error is [ErrState] when it
// runs and Force is not set. Removing a box that has removed itself succeeds.
func (b *Box) Remove(ctx context.Context, o RemoveOptions) error { return b.on.Remove(ctx, o) }

// Sync saves the files of a running box now, as Stop does. When it returns nil
// they outlast any crash.
func (b *Box) Sync(ctx context.Context) error { return b.on.Sync(ctx) }

// Stats tells what a running box uses. The error is [ErrState] when it does
// not run.
func (b *Box) Stats(ctx context.Context) (Stats, error) { return b.on.Stats(ctx) }

// Executions lists the commands of a running box: those that run, and the last
// ones that ended.
func (b *Box) Executions(ctx context.Context) ([]Execution, error) { return b.on.Executions(ctx) }

// Execution tells about one command of a running box. The error is
// [ErrNotFound] when the box does not know the id, or no longer.
func (b *Box) Execution(ctx context.Context, id string) (Execution, error) {
	return b.on.Execution(ctx, id)
}

// Logs returns what the main command of a job wrote, both outputs in order. At
// least the last 10 MB are kept. It is empty when there is none. The caller
// closes the reader; ctx ends a reader that follows.
func (b *Box) Logs(ctx context.Context, o LogOptions) (io.ReadCloser, error) {
	return b.on.Logs(ctx, o)
}

// NetworkLog returns what the box did on the network and what became of it,
// oldest first, through all its runs; at least the last megabyte is kept. It
// ends with an error, or with the log; one that follows ends when the box
// stops.
func (b *Box) NetworkLog(ctx context.Context, o NetworkLogOptions) iter.Seq2[egress.Event, error] {
	return b.on.NetworkLog(ctx, o)
}

// SetNetwork changes what the box may reach, and stores it. In a running box
// it holds at once: connections that the new policy refuses are reset. The
// error is [ErrState] when that would give a running box a network or take it
// away, for which it must be stopped.
func (b *Box) SetNetwork(ctx context.Context, p egress.Policy) error { return b.on.SetNetwork(ctx, p) }

// SetSecret gives this handle the value of one of the box's secrets, for the
// next start of the box. Values are not stored, so a handle from [Runtime.Box]
// has none. The error is [ErrNotFound] when the box has no such secret.
func (b *Box) SetSecret(name, value string) error { return b.on.SetSecret(name, value) }

// fail names the box in an error and its condition.
func (b *Box) fail(op string, err error) error { return failBox(b.on, b.label(), op, err) }

func (b *Box) label() string { return boxLabel(b.id, b.name) }

// boxLabel is how errors call a box.
func boxLabel(id, name string) string {
	if name != "" {
		return name
	}
	return id
}

// failBox names a box in an error and its condition.
func failBox(on boxBackend, label, op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{op, label, on.condition(err)}
}
