package restapi

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
)

// terms are how long a box may idle and be kept, in seconds; 0 is for ever.
type terms struct {
	stop, remove int
	resume       bool
}

func termsOf(labels map[string]string) terms {
	t := terms{resume: labels[labelNoResume] == ""}
	t.stop, _ = strconv.Atoi(labels[labelAutoStop]) // what is not ours to read is 0
	t.remove, _ = strconv.Atoi(labels[labelAutoDelete])
	return t
}

// lifecycle stops boxes that idle and removes those that were stopped long
// enough. Their terms are kept with them; the time of last use is not, so a
// server that starts anew counts from then.
type lifecycle struct {
	s     *Server
	begun time.Time

	mu   sync.Mutex
	used map[string]time.Time // by box, of all that were named here; zero: not used
}

func newLifecycle(s *Server) *lifecycle {
	return &lifecycle{s: s, begun: time.Now(), used: map[string]time.Time{}}
}

// lookEvery is how often boxes are looked at: BoxLite's server does so too.
const lookEvery = 30 * time.Second

// touch says that a box is used now.
func (l *lifecycle) touch(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used[id] = time.Now()
}

// meet says that a box is named here, so that something may be known of it.
func (l *lifecycle) meet(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.used[id]; !known {
		l.used[id] = time.Time{}
	}
}

// met is the boxes that were named here.
func (l *lifecycle) met() map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make(map[string]bool, len(l.used))
	for id := range l.used {
		ids[id] = true
	}
	return ids
}

func (l *lifecycle) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.used, id)
}

func (l *lifecycle) sweep(ctx context.Context, now time.Time) {
	gone := l.met() // before the list, which has all of them that are there
	infos, err := l.s.rt.Boxes(ctx)
	if err != nil {
		l.s.log.Warn("idle boxes not looked for", slog.Any("err", err))
		return
	}
	for _, i := range infos {
		delete(gone, i.ID)
	}
	for id := range gone { // they have removed themselves, or another process has
		l.s.forget(id)
	}
	for _, i := range infos {
		if err := l.settle(ctx, i, now); err != nil && ctx.Err() == nil {
			l.s.log.Warn("box not settled", slog.String("box", i.ID), slog.Any("err", err))
		}
	}
}

// settle does what the terms of a box ask for.
func (l *lifecycle) settle(ctx context.Context, i boxlite.BoxInfo, now time.Time) error {
	t := termsOf(i.Options.Labels)
	switch i.State {
	case boxlite.StateRunning:
		if t.stop == 0 || now.Sub(l.lastUse(i, now)) < time.Duration(t.stop)*time.Second {
			return nil
		}
		b, err := l.s.rt.Box(ctx, i.ID)
		if err != nil {
			return err
		}
		l.s.log.Info("idle box stopped", slog.String("box", i.ID), slog.Int("auto_stop", t.stop))
		return l.s.stop(ctx, b, stopTimeout)
	case boxlite.StateStopped, boxlite.StateFailed:
		if t.remove == 0 || i.Finished.IsZero() || now.Sub(i.Finished) < time.Duration(t.remove)*time.Second {
			return nil
		}
		if err := l.s.rt.Remove(ctx, i.ID, boxlite.RemoveOptions{}); err != nil {
			return err
		}
		l.s.log.Info("stopped box removed", slog.String("box", i.ID), slog.Int("auto_delete", t.remove))
		l.s.forget(i.ID)
	}
	return nil
}

// lastUse is when a running box was last used: now, while somebody follows a
// command in it.
func (l *lifecycle) lastUse(i boxlite.BoxInfo, now time.Time) time.Time {
	for _, x := range l.s.sessions.of(i.ID) {
		if !x.idle() {
			return now
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.begun
	for _, t := range []time.Time{l.used[i.ID], i.Started} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// killTimeout is far beyond what an agent that answers needs to kill what runs.
const killTimeout = 5 * time.Second

// killAll ends all that runs in a box. What it cannot end, the stop after it
// does: also where the agent is stopped, and answers to nothing.
func killAll(ctx context.Context, b *boxlite.Box) {
	ctx, cancel := context.WithTimeout(ctx, killTimeout)
	defer cancel()
	list, _ := b.Executions(ctx)
	for _, x := range list {
		if x.ExitCode == nil {
			_ = b.Attach(ctx, x.ID).Kill()
		}
	}
}
