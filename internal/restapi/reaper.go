package restapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// Reaping says what becomes of commands that were started over HTTP and that
// clients leave alone, or that never end. The zero value leaves them alone too.
// Main commands of jobs, and commands that somebody else has started, are
// never touched: a server that starts anew knows none as its own.
type Reaping struct {
	// After is how long a command may go on without a client that follows it
	// or asks for it: then it gets SIGHUP, SIGTERM after Grace, SIGKILL after
	// Grace once more, and is forgotten. Zero is for ever.
	After time.Duration
	// Grace is for the command to end in order. Zero means 30 s.
	Grace time.Duration
	// Lifetime is how long a command may run at all: then it gets SIGKILL.
	// Zero is for ever.
	Lifetime time.Duration
}

// defaultGrace is that of BoxLite's server.
const defaultGrace = 30 * time.Second

// reapStage is how far the reaping of an execution has gone.
type reapStage struct {
	sent int // signals
	at   time.Time
}

// reap does to one execution what is due.
func (ss *sessions) reap(ctx context.Context, x *session, now time.Time) {
	sig, why := x.due(ss.s.cfg.Reaping, now)
	if sig == 0 {
		return
	}
	log := ss.s.log.With(slog.String("box", x.box), slog.String("execution", x.id))
	err := ss.send(ctx, x, sig)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		log.Warn("execution not reaped", slog.Int("signal", int(sig)), slog.Any("err", err))
	default:
		if sig == syscall.SIGKILL {
			x.letGo()
		}
		log.Info("execution reaped", slog.Int("signal", int(sig)), slog.String("cause", why))
	}
}

func (ss *sessions) send(ctx context.Context, x *session, sig syscall.Signal) error {
	b, err := ss.s.rt.Box(ctx, x.box)
	if err != nil {
		return err
	}
	return sendSignal(b.Attach(ctx, x.id), int(sig))
}

// due is the signal that an execution is to get now, and why. 0 is none. With
// SIGKILL the execution is given up: nobody may attach to it any more.
func (x *session) due(r Reaping, now time.Time) (syscall.Signal, string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.begun.IsZero() || x.id == mainID || x.exit != nil || x.lost || x.removed:
		return 0, ""
	case x.reaped != "":
		return syscall.SIGKILL, x.reaped // the one before failed
	case r.Lifetime > 0 && now.Sub(x.begun) >= r.Lifetime:
		x.reaped = fmt.Sprintf("it ran for %v, the longest this server lets one", r.Lifetime)
		return syscall.SIGKILL, x.reaped
	}
	if r.After == 0 || len(x.sockets) > 0 || !x.touched.Before(x.reaping.at) {
		x.reaping = reapStage{}
	}
	if r.After == 0 || len(x.sockets) > 0 {
		return 0, ""
	}
	return x.escalateLocked(r, now)
}

func (x *session) escalateLocked(r Reaping, now time.Time) (syscall.Signal, string) {
	since, wait := x.touched, r.After
	if x.reaping.sent > 0 {
		since, wait = x.reaping.at, r.Grace
	}
	if wait == 0 {
		wait = defaultGrace
	}
	if now.Sub(since) < wait {
		return 0, ""
	}
	why := fmt.Sprintf("no client asked for it for %v", r.After)
	sig := []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL}[x.reaping.sent]
	x.reaping = reapStage{x.reaping.sent + 1, now}
	if sig == syscall.SIGKILL {
		x.reaped = why
	}
	return sig, why
}

// gone is the error for an execution that is not to be had any more; nil:
// it is.
func (x *session) gone() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.goneLocked()
}

func (x *session) goneLocked() error {
	switch {
	case x.removed:
		return httpapi.NotFound.Errorf("execution %q was deleted", x.id)
	case x.reaped != "":
		return httpapi.Reaped.Errorf("execution %q was ended by the server: %s", x.id, x.reaped)
	}
	return nil
}

// sweep looks at all sessions: what has ended unseen, what is to be ended, and
// what may be forgotten.
func (ss *sessions) sweep(ctx context.Context, now time.Time) {
	unseen := map[string][]*session{}
	for _, x := range ss.of("") {
		if x.unseen() {
			unseen[x.box] = append(unseen[x.box], x)
		}
	}
	for box, xs := range unseen {
		ss.look(ctx, box, xs)
	}
	for _, x := range ss.of("") {
		if x.forgettable(now) {
			ss.drop(x)
			continue
		}
		ss.reap(ctx, x, now)
	}
}

// unseen tells whether the execution may have ended without anybody noticing.
func (x *session) unseen() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.idleLocked() && x.exit == nil && !x.lost
}

// look asks a box about executions that no stream follows.
func (ss *sessions) look(ctx context.Context, box string, xs []*session) {
	ctx, cancel := context.WithTimeout(ctx, tickEvery)
	defer cancel()
	known, over := ss.executions(ctx, box)
	for _, x := range xs {
		e, ok := known[x.id]
		switch {
		case ok && e.ExitCode != nil:
			x.set(exitKnown(e))
		case over || !ok && known != nil:
			x.lose()
		}
	}
}

// executions is what a box knows; nil: not known. over says that all have
// ended with the box.
func (ss *sessions) executions(ctx context.Context, box string) (known map[string]boxlite.Execution, over bool) {
	b, err := ss.s.rt.Box(ctx, box)
	if err != nil {
		return nil, errors.Is(err, boxlite.ErrNotFound)
	}
	list, err := b.Executions(ctx)
	if err != nil {
		return nil, errors.Is(err, boxlite.ErrState) || errors.Is(err, boxlite.ErrBoxDied)
	}
	known = make(map[string]boxlite.Execution, len(list))
	for _, e := range list {
		known[e.ID] = e
	}
	return known, false
}
