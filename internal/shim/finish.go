package shim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/store"
)

// forceTimeout is how long a machine may take to go when it is not asked to do
// anything first.
const forceTimeout = 5 * time.Second

// finish stops the box and gives up everything of it. It never fails: what
// went wrong is in the state it leaves.
func (o *owner) finish(e ending) {
	o.update(func(r *Run) { r.State = Stopping })
	if alive(o.machine) && !e.discard {
		if err := o.quiesce(e); err != nil {
			e.state, e.reason = Failed, err.Error()
			o.unkept = err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), forceTimeout)
	defer cancel()
	if err := o.machine.Stop(ctx); err != nil {
		e.state, e.reason = Failed, fmt.Sprintf("stop: %v", err)
	}
	if err := o.leaveNetwork(); err != nil {
		fmt.Fprintln(os.Stderr, "close network:", err) // it ends with this process at the latest
	}
	o.follows.Wait()
	o.ln.Close()
	o.leave(e)
	o.lock.Unlock()
	close(o.stopped) // answers whoever asked to stop
	o.awaitCalls()
}

// awaitCalls lets the requests under way be answered. A client that has
// connected and says nothing does not keep the shim.
func (o *owner) awaitCalls() {
	answered := make(chan struct{})
	go func() { // ends with the calls or with the process
		o.calls.Wait()
		close(answered)
	}()
	select {
	case <-answered:
	case <-time.After(quickGrace):
	}
}

// quiesce ends all commands and saves what they wrote.
func (o *owner) quiesce(e ending) error {
	ctx, cancel := context.WithTimeout(context.Background(), e.grace+forceTimeout)
	defer cancel()
	if err := o.guest.Shutdown(ctx, e.grace); err != nil && alive(o.machine) {
		fmt.Fprintln(os.Stderr, "shutdown:", err) // the machine is stopped all the same
	}
	o.noteExit(ctx)
	if o.spec.AutoRemove {
		return nil
	}
	_, err := o.save()
	if err != nil && endsSoon(o.machine) {
		err = fmt.Errorf("its machine ended before its files could be saved, those of the last save are kept: %w", o.machine.Err())
	}
	return err
}

// endsSoon waits a moment for a machine that is about to end.
func endsSoon(m engine.Machine) bool {
	select {
	case <-m.Done():
		return m.Err() != nil
	case <-time.After(time.Second):
		return false
	}
}

func alive(m engine.Machine) bool {
	select {
	case <-m.Done():
		return false
	default:
		return true
	}
}

// noteExit writes down how the main command ended.
func (o *owner) noteExit(ctx context.Context) {
	o.mu.Lock()
	ask := o.followed && o.run.Exit == nil
	o.mu.Unlock()
	if !ask {
		return
	}
	if x, err := o.guest.Execution(ctx, MainID); err == nil && x.Exit != nil {
		o.update(func(r *Run) { r.Exit = x.Exit })
	}
}

// leave writes the last state, or removes the box. What a save that has just
// ended has to say comes too late: the next owner may be at work.
func (o *owner) leave(e ending) {
	o.update(func(r *Run) {
		r.State, r.Reason, r.OOM, r.Finished, r.PID, r.Machine, r.Ports = e.state, e.reason, e.oom, time.Now(), 0, 0, nil
		r.Health = Health{}
	})
	o.mu.Lock()
	o.left = true
	o.mu.Unlock()
	clean := o.remove
	if !o.spec.AutoRemove {
		clean = func() error { return sweep(o.spec.Dir, o.spec.Machine.ID) }
	}
	if err := clean(); err != nil {
		fmt.Fprintln(os.Stderr, "clean up:", err) // tried again when the home is opened next
	}
}

// remove deletes the box: its row first, so that nobody finds half a box.
func (o *owner) remove() error {
	s, err := store.Open(o.spec.Database)
	if err != nil {
		return err
	}
	defer s.Close()
	err = s.Remove(context.Background(), o.spec.Machine.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return Delete(o.spec.Dir, o.spec.Machine.ID)
}

// Delete removes the directory of a box and what else a run left. The caller
// holds the lock and has removed the row.
func Delete(dir, id string) error {
	return errors.Join(sweep(dir, id), os.RemoveAll(dir))
}
