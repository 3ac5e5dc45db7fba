package shim

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestHealthFollowsTheChecks goes through checks, one a minute, of a box with a
// start period of two and a half.
func TestHealthFollowsTheChecks(t *testing.T) {
	c := &HealthCheck{Interval: time.Minute, StartPeriod: 150 * time.Second, Retries: 2}
	for _, tt := range []struct {
		name     string
		check    *HealthCheck
		answers  string // one letter a check: y for an answer
		state    HealthState
		failures int
	}{
		{"nobody has asked", c, "", HealthStarting, 0},
		{"it answers", c, "y", Healthy, 0},
		{"failures of the start period do not count", c, "nn", HealthStarting, 0},
		{"those after it do", c, "nnn", HealthStarting, 1},
		{"as many as are allowed, and one", c, "nnnn", Unhealthy, 2},
		{"an answer ends the start period", c, "yn", Healthy, 1},
		{"so the next failures count", c, "ynn", Unhealthy, 2},
		{"failures that are not in a row", c, "ynynyn", Healthy, 1},
		{"it stays unhealthy", c, "ynnnnn", Unhealthy, 5},
		{"until it answers once", c, "ynnnnny", Healthy, 0},
		{"no start period", &HealthCheck{StartPeriod: -1, Retries: 2}, "n", HealthStarting, 1},
		{"no start period, no answer", &HealthCheck{StartPeriod: -1, Retries: 2}, "nn", Unhealthy, 2},
		{"one failure is enough", &HealthCheck{Retries: 1}, "yn", Unhealthy, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, start := Health{State: HealthStarting}, time.Now()
			var last time.Time
			for i, a := range tt.answers {
				age := time.Duration(i+1) * time.Minute
				last = start.Add(age)
				got = tt.check.next(got, a == 'y', age, last)
			}
			if want := (Health{tt.state, tt.failures, last}); got != want {
				t.Errorf("after %q: got %+v, want %+v", tt.answers, got, want)
			}
		})
	}
}

// TestHealthOfABoxThatFallsSilentAndAnswersAgain looks at what a caller is told,
// and at what is written down.
func TestHealthOfABoxThatFallsSilentAndAnswersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1}
		o := keep(t, m, Spec{SaveInterval: -1, Health: &HealthCheck{Interval: 2 * time.Second, Timeout: time.Second, Retries: 3}})
		began := time.Now()
		look := func(at time.Duration, want Health, written HealthState) {
			t.Helper()
			time.Sleep(time.Until(began.Add(at)))
			if got := o.state().Health; got != want {
				t.Errorf("after %v: got %+v, want %+v", at, got, want)
			}
			if run, err := readRun(o.spec.Dir); err != nil || run.Health.State != written {
				t.Errorf("written down after %v: got %+v, %v, want %s", at, run.Health, err, written)
			}
		}
		each := 2*time.Second + settle // from one answer to the next
		look(time.Second, Health{State: HealthStarting}, HealthStarting)
		look(3*time.Second, Health{Healthy, 0, began.Add(2 * time.Second)}, Healthy)
		look(5*time.Second, Health{Healthy, 0, began.Add(2*time.Second + each)}, Healthy)
		if run, err := readRun(o.spec.Dir); err != nil || !run.Health.LastCheck.Equal(began.Add(2*time.Second)) {
			t.Errorf("written down: got a check at %v, %v, want that which changed the state", run.Health.LastCheck, err)
		}
		silent := began.Add(2*time.Second + 2*each) // the next check
		m.set(func() { m.deaf = true })
		look(7*time.Second, Health{Healthy, 1, silent}, Healthy)
		look(9*time.Second, Health{Healthy, 2, silent.Add(2 * time.Second)}, Healthy)
		look(11*time.Second, Health{Unhealthy, 3, silent.Add(4 * time.Second)}, Unhealthy)
		look(13*time.Second, Health{Unhealthy, 4, silent.Add(6 * time.Second)}, Unhealthy)
		m.set(func() { m.deaf = false })
		look(15*time.Second, Health{Healthy, 0, silent.Add(8 * time.Second)}, Healthy)
	})
}

// TestASlowAnswerIsNone: it comes when the time of the check is over.
func TestASlowAnswerIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, slow: 2 * time.Second}
		o := keep(t, m, Spec{SaveInterval: -1, Health: &HealthCheck{Interval: time.Second, Timeout: time.Second, Retries: 1}})
		time.Sleep(2*time.Second - time.Millisecond)
		if got := o.state().Health.State; got != HealthStarting {
			t.Errorf("during the check: got %s, want starting", got)
		}
		time.Sleep(2 * time.Millisecond)
		if got := o.state().Health; got.State != Unhealthy || got.Failures != 1 {
			t.Errorf("after it: got %+v, want unhealthy", got)
		}
	})
}

// TestASaveIsNoFailure: a box that stands still to be saved cannot answer. One
// that does for longer than any save does hangs.
func TestASaveIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1, deaf: true}
		o := keep(t, m, Spec{SaveInterval: -1, Health: &HealthCheck{Interval: time.Second, Timeout: time.Second, Retries: 1}})
		o.countSaves(1)
		o.countSaves(1)
		time.Sleep(longestPause / 2)
		o.countSaves(-1)
		time.Sleep(longestPause/2 - time.Millisecond)
		if got := o.state().Health; got != (Health{State: HealthStarting}) {
			t.Errorf("while it is saved: got %+v, want starting, as if nobody had asked", got)
		}
		time.Sleep(time.Second)
		if got := o.state().Health.State; got != Unhealthy {
			t.Errorf("after %v of a save: got %s, want unhealthy", longestPause, got)
		}
		m.set(func() { m.deaf = false })
		time.Sleep(time.Second)
		if got := o.state().Health.State; got != Healthy {
			t.Errorf("an answer during a save: got %s, want healthy", got)
		}
		o.countSaves(-1)
		m.set(func() { m.deaf = true })
		time.Sleep(time.Second + settle)
		if got := o.state().Health.State; got != Unhealthy {
			t.Errorf("without a save: got %s, want unhealthy", got)
		}
	})
}

// TestUnhealthyBeforeItEnds: a box whose agent stays silent is said to be
// unhealthy if that is known sooner, and ends as it does without a check.
func TestUnhealthyBeforeItEnds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		check *HealthCheck
		state HealthState
	}{
		{"soon", &HealthCheck{Interval: 10 * time.Second, Timeout: 5 * time.Second, Retries: 3}, Unhealthy},
		{"too late", &HealthCheck{Interval: 30 * time.Second, Timeout: 10 * time.Second, Retries: 3}, HealthStarting},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := keep(t, &savingMachine{activity: 1, slow: time.Hour}, Spec{SaveInterval: -1, Health: tt.check})
				e := <-o.ends
				if got := o.state().Health.State; e.state != Failed || got != tt.state {
					t.Errorf("a silent box: got %s when it ended with %+v, want %s, failed", got, e, tt.state)
				}
			})
		})
	}
}

// TestAHealthyBoxRests: what a check wakes is saved once more, and no more than
// that.
func TestAHealthyBoxRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1}
		o := keep(t, m, Spec{SaveInterval: 10 * time.Second, Health: &HealthCheck{Interval: 2 * time.Minute, Timeout: time.Second, Retries: 3}})
		time.Sleep(2*time.Minute - time.Second)
		m.took(time.Now())
		time.Sleep(time.Minute)
		if got := len(m.took(time.Now())); got != 1 || o.unsaved() {
			t.Errorf("after a check: got %d saves, unsaved %v, want one, and rest", got, o.unsaved())
		}
	})
}

func TestNobodyAsksWithoutACheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &savingMachine{activity: 1}
		o := keep(t, m, Spec{SaveInterval: -1})
		o.update(func(r *Run) { r.Health = Health{} })
		time.Sleep(pulse - time.Second)
		if len(m.pings) != 0 || o.state().Health != (Health{}) {
			t.Errorf("got %d pings, health %+v, want neither", len(m.pings), o.state().Health)
		}
	})
}
