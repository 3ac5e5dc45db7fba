package shim

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

const (
	// minSaveTimeout and saveSpeed (bytes a second) bound the saving of a
	// writable layer: a slow disk takes 50 MB/s. A save that is given up loses
	// work, so this is generous.
	minSaveTimeout = time.Minute
	saveSpeed      = 50e6
	// restPerPause is how many times the pause of a save a box runs before the
	// next one begins: it stands still for at most a twentieth of the time.
	restPerPause = 19
	// settle is when what a save has stopped has gone on, each thread where it
	// was, and rests again if it did before. That looks like activity, and
	// takes a few milliseconds.
	settle = 100 * time.Millisecond
	// confirm is how long a box that rests is taken at its word: what it changed
	// while it settled has not been seen. A save of what has not changed costs
	// some milliseconds.
	confirm = 5 * time.Minute
)

// keepSaved saves the writable layer whenever something has run in the box, at
// most once in each interval, and once more before it takes the box to rest:
// what the first save has not seen, because it came while the box settled, the
// second one has. Before that one the agent is asked for a sign of life, so that
// a box at rest need not be woken for that. It returns when the box ends.
func (o *owner) keepSaved(ctx context.Context) {
	d, ok := o.machine.(engine.DiskSaver)
	if !ok || o.spec.AutoRemove || o.spec.SaveInterval <= 0 {
		return
	}
	var confirmed time.Time
	for wait := o.spec.SaveInterval; pause(ctx, wait); {
		wait = o.spec.SaveInterval
		if !o.unsaved() && time.Since(confirmed) < confirm {
			hostos.OwnText().Trim() // the part of the program that this look needed
			continue
		}
		rests := o.isCalm(d.Activity()) && o.answers(ctx)
		saved, err := o.save()
		confirmed = time.Now()
		wait = max(wait, restPerPause*saved.Paused)
		if !pause(ctx, settle) {
			return
		}
		o.hasSettled(d.Activity(), rests && err == nil)
		debug.FreeOSMemory() // a save takes some MB, if only to see that nothing has changed
		hostos.OwnText().Trim()
	}
}

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// isCalm tells whether nothing has run since what we ourselves last woke had
// settled.
func (o *owner) isCalm(activity uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return activity == o.calm
}

// hasSettled remembers the activity of a box after a save, and whether it rests,
// all of it saved.
func (o *owner) hasSettled(activity uint64, rests bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calm = activity
	if rests {
		o.saved = activity
	}
}

// unsaved tells whether anything may have changed since the last save.
func (o *owner) unsaved() bool {
	d, ok := o.machine.(engine.DiskSaver)
	if !ok {
		return false
	}
	now := d.Activity()
	o.mu.Lock()
	defer o.mu.Unlock()
	return now == 0 || now != o.saved
}

// save writes the writable layer to the host, if it does not live there, and
// remembers what came of it.
func (o *owner) save() (engine.Saved, error) {
	s, ok := o.machine.(engine.DiskSaver)
	if !ok {
		return engine.Saved{}, nil
	}
	limit := minSaveTimeout + time.Duration(float64(o.spec.Machine.DiskSize)/saveSpeed*float64(time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	o.countSaves(1)
	defer o.countSaves(-1)
	began := time.Now() // what changes from here on may not be in it
	saved, err := s.SaveDisk(ctx)
	if err != nil {
		err = fmt.Errorf("its files could not be saved, those of the last save are kept: %w", err)
	}
	if saved.Mended != nil {
		logSave(fmt.Sprintf("%v; all was written anew", saved.Mended))
	}
	o.noteSave(began, err)
	return saved, err
}

// noteSave writes down what came of a save. A failure is said once, for as
// long as it stays the same.
func (o *owner) noteSave(began time.Time, err error) {
	var before string
	o.update(func(r *Run) {
		before = r.SaveError
		if err != nil {
			r.SaveError = err.Error()
			return
		}
		r.Saved, r.SaveError = began, ""
	})
	switch {
	case err != nil && err.Error() != before:
		logSave(err)
	case err == nil && before != "":
		logSave("its files are saved again")
	}
}

// logSave writes to the log of the box's owner.
func logSave(what any) {
	fmt.Fprintln(os.Stderr, time.Now().Format(time.RFC3339), "save:", what)
}

func (o *owner) countSaves(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.saving += n
	switch {
	case o.saving == 0:
		o.since = time.Time{}
	case o.since.IsZero():
		o.since = time.Now()
	}
}

// savingSince is since when the box is being saved; zero: it is not.
func (o *owner) savingSince() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.since
}
