package shim

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// savingMachine counts its saves. Embedded methods are not called.
type savingMachine struct {
	engine.Machine

	mu       sync.Mutex
	activity uint64
	saved    engine.Saved // what a save says
	fails    error
	saves    []time.Time
	pings    []time.Time
	deaf     bool          // its agent does not answer
	slow     time.Duration // how long it takes to answer
}

func (m *savingMachine) ping(ctx context.Context) error {
	if m.slow > 0 && !pause(ctx, m.slow) {
		return context.Cause(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pings = append(m.pings, time.Now())
	if m.deaf {
		return errors.New("no answer")
	}
	m.activity++
	return ctx.Err()
}

func (m *savingMachine) SaveDisk(context.Context) (engine.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saves = append(m.saves, time.Now())
	m.activity++ // what was stopped goes on
	return m.saved, m.fails
}

func (m *savingMachine) Activity() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.activity
}

func (m *savingMachine) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// took returns when there were saves since began, in whole seconds, and
// forgets them.
func (m *savingMachine) took(began time.Time) []int {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []int
	for _, s := range m.saves {
		out = append(out, int(s.Sub(began)/time.Second))
	}
	m.saves = nil
	return out
}

// keep runs the loops of an owner for a box until the test is over.
func keep(t *testing.T, m *savingMachine, spec Spec) *owner {
	t.Helper()
	spec.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(spec.Dir, lockName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := Lock(spec.Dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Unlock)
	o := &owner{spec: spec, machine: m, lock: lock, ping: m.ping, ends: make(chan ending, 1)}
	o.update(func(r *Run) { r.State, r.Health.State = Running, HealthStarting })
	ctx, cancel := context.WithCancel(t.Context())
	o.cancel = cancel
	var wg sync.WaitGroup
	wg.Go(func() { o.keepSaved(ctx) })
	wg.Go(func() { o.watchAgent(ctx) })
	wg.Go(func() { o.watchHealth(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return o
}

func TestSavedWhileSomethingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1}
		o := keep(t, m, Spec{SaveInterval: 10 * time.Second})
		began := time.Now()
		for range 45 {
			time.Sleep(time.Second)
			m.set(func() { m.activity++ })
		}
		if got := m.took(began); len(got) != 4 || got[0] != 10 {
			t.Errorf("saves of a busy box in 45 s: got at %v, want 4, the first after 10", got)
		}
		if run := o.state(); run.Saved.IsZero() || run.SaveError != "" {
			t.Errorf("afterwards: got saved at %v, error %q, want a time, and none", run.Saved, run.SaveError)
		}
	})
}

func TestABoxAtRestIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, saved: engine.Saved{Unchanged: true}}
		o := keep(t, m, Spec{SaveInterval: time.Second})
		began := time.Now()
		time.Sleep(confirm - time.Minute)
		if got := m.took(began); !slices.Equal(got, []int{1, 2}) {
			t.Errorf("saves of a box at rest: got at %v, want one, and one to make sure", got)
		}
		if o.unsaved() {
			t.Error("a box at rest counts as unsaved")
		}
		time.Sleep(2 * time.Minute)
		if got := m.took(began); len(got) != 1 {
			t.Errorf("saves to make sure, after %v: got at %v, want one", confirm, got)
		}
		m.set(func() { m.activity++ })
		if !o.unsaved() {
			t.Error("a box in which something has run counts as saved")
		}
		time.Sleep(time.Minute)
		if got := m.took(began); len(got) != 2 {
			t.Errorf("saves after something ran: got at %v, want one, and one to make sure", got)
		}
	})
}

// TestRestIsNotDisturbed: a save wakes the box, and so does the question whether
// its agent is well. Neither is a reason for the other.
func TestRestIsNotDisturbed(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 10 * time.Second, pulse, time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &savingMachine{activity: 1}
				o := keep(t, m, Spec{SaveInterval: interval})
				time.Sleep(2*interval + pulse)
				if o.unsaved() || len(m.pings) == 0 {
					t.Errorf("after two saves: got unsaved %v and %d pings, want rest, its agent asked", o.unsaved(), len(m.pings))
				}
				m.set(func() { m.saves, m.pings = nil, nil })
				time.Sleep(confirm - 2*interval - 2*pulse)
				if len(m.saves) != 0 || len(m.pings) != 0 {
					t.Errorf("at rest: got %d saves and %d pings, want neither", len(m.saves), len(m.pings))
				}
			})
		})
	}
}

// TestNoRestWithoutAnAnswer: something stopped the agent, and nothing runs since.
func TestNoRestWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, deaf: true}
		o := keep(t, m, Spec{SaveInterval: 10 * time.Second})
		time.Sleep(2*pulse + pulseTimeout)
		select {
		case e := <-o.ends:
			if e.state != Failed {
				t.Errorf("a box whose agent is silent: got ended with %+v, want failed", e)
			}
		default:
			t.Error("a box whose agent is silent goes on")
		}
		if !o.unsaved() {
			t.Error("a box whose agent is silent counts as one at rest")
		}
	})
}

// TestEndsWithItsDirectory: a home that is deleted leaves no box that nobody can
// reach. One that is renamed does.
func TestEndsWithItsDirectory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := keep(t, &savingMachine{activity: 1}, Spec{SaveInterval: -1})
		if err := os.Rename(filepath.Join(o.spec.Dir, lockName), filepath.Join(o.spec.Dir, "moved")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pulse)
		if len(o.ends) != 0 {
			t.Errorf("a box whose directory was renamed: got ended with %+v, want that it goes on", <-o.ends)
		}
		if err := os.RemoveAll(o.spec.Dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * pulse)
		if len(o.ends) == 0 {
			t.Error("a box whose directory was deleted goes on")
		} else if e := <-o.ends; e.state != Failed || !e.discard {
			t.Errorf("a box whose directory was deleted: got ended with %+v, want failed, nothing saved", e)
		}
	})
}

// TestWhatSettlesIsSaved has something run just after a save, where it cannot be
// told from what the save has woken, and then rest.
func TestWhatSettlesIsSaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1}
		o := keep(t, m, Spec{SaveInterval: 10 * time.Second})
		time.Sleep(10*time.Second + settle/2)
		m.set(func() { m.activity++ })
		time.Sleep(settle)
		if !o.unsaved() {
			t.Error("a box that has run since its only save counts as saved")
		}
		changed := time.Now()
		m.took(changed)
		time.Sleep(10*time.Second + settle)
		if got := m.took(changed); len(got) != 1 {
			t.Errorf("saves in the interval after a change: got at %v, want one", got)
		}
		if o.unsaved() {
			t.Error("a box at rest counts as unsaved")
		}
	})
}

// TestSavesTakeATwentieth has a box that stands still for two seconds at each.
func TestSavesTakeATwentieth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, saved: engine.Saved{Paused: 2 * time.Second}}
		keep(t, m, Spec{SaveInterval: 10 * time.Second})
		began := time.Now()
		for range 100 {
			time.Sleep(time.Second)
			m.set(func() { m.activity++ })
		}
		if got := m.took(began); len(got) != 3 || got[1]-got[0] < 38 {
			t.Errorf("saves in 100 s: got at %v, want 3, 38 s apart", got)
		}
	})
}

func TestFailedSaveIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, fails: errors.New("no space left on device")}
		o := keep(t, m, Spec{SaveInterval: 10 * time.Second})
		time.Sleep(25 * time.Second)
		if got := m.took(time.Now()); len(got) != 2 {
			t.Errorf("failing saves in 25 s: got %d, want 2: it is tried again", len(got))
		}
		if run, err := readRun(o.spec.Dir); err != nil || !strings.Contains(run.SaveError, "no space left") || !run.Saved.IsZero() {
			t.Errorf("state after failed saves: got error %q, saved %v, %v, want the reason", run.SaveError, run.Saved, err)
		}
		m.set(func() { m.fails = nil })
		time.Sleep(10 * time.Second)
		if run := o.state(); run.SaveError != "" || run.Saved.IsZero() {
			t.Errorf("state after a good save: got error %q, saved %v, want none, and a time", run.SaveError, run.Saved)
		}
	})
}

// TestASaveThatEndsLateIsNotWrittenDown: by then the box may have another owner.
func TestASaveThatEndsLateIsNotWrittenDown(t *testing.T) {
	o := &owner{spec: Spec{Dir: t.TempDir()}}
	o.spec.Machine.ID = "test" + strings.ToLower(rand.Text()[:16])
	o.update(func(r *Run) { r.State = Running })
	o.leave(ending{state: Stopped})
	next := Run{State: Running, PID: 1}
	if err := writeRun(o.spec.Dir, next); err != nil {
		t.Fatal(err)
	}
	o.noteSave(time.Now(), errors.New("the machine has ended"))
	if got, err := readRun(o.spec.Dir); err != nil || got.PID != next.PID || got.State != Running || got.SaveError != "" {
		t.Errorf("state of the next owner: got %+v, %v, want it as it was", got, err)
	}
}

func TestNotSavedWhereNobodyWantsIt(t *testing.T) {
	for name, spec := range map[string]Spec{
		"off":         {SaveInterval: -1},
		"auto-remove": {SaveInterval: time.Second, AutoRemove: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &savingMachine{activity: 1}
				keep(t, m, spec)
				time.Sleep(time.Minute)
				if got := m.took(time.Now()); len(got) != 0 {
					t.Errorf("got %d saves, want none", len(got))
				}
			})
		})
	}
}
