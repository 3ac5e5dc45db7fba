package shim

import (
	"context"
	"time"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// HealthCheck says how the agent of a box is asked whether it is well. Nothing
// is left out here.
type HealthCheck struct {
	Interval    time.Duration `json:"interval"` // between two checks
	Timeout     time.Duration `json:"timeout"`  // of one
	StartPeriod time.Duration `json:"start_period"`
	Retries     int           `json:"retries"` // failures in a row
}

// HealthState is what came of the checks so far.
type HealthState string

// States of health. The zero value is that of a box that nobody asks.
const (
	HealthStarting HealthState = "starting"
	Healthy        HealthState = "healthy"
	Unhealthy      HealthState = "unhealthy"
)

// Health is what is known of a box that is asked whether it is well.
type Health struct {
	State     HealthState `json:"state"`
	Failures  int         `json:"failures"` // in a row
	LastCheck time.Time   `json:"last_check,omitzero"`
}

// next is the health of a box after one more check, which began at age after
// its start and ended at that time. Until a box has once answered, failures in
// its start period do not count.
func (c *HealthCheck) next(h Health, answered bool, age time.Duration, at time.Time) Health {
	h.LastCheck = at
	switch {
	case answered:
		h.State, h.Failures = Healthy, 0
	case h.State == HealthStarting && age < c.StartPeriod:
	default:
		if h.Failures++; h.Failures >= c.Retries {
			h.State = Unhealthy
		}
	}
	return h
}

// watchHealth asks the agent in each interval whether it is well, if the box is
// to be asked, and returns when it ends. A box that is not well goes on: to end
// it is for [owner.watchAgent].
func (o *owner) watchHealth(ctx context.Context) {
	c := o.spec.Health
	if c == nil {
		return
	}
	for started := time.Now(); pause(ctx, c.Interval); {
		age, before := time.Since(started), o.sign()
		answered := o.ask(ctx, c.Timeout)
		if ctx.Err() != nil {
			return
		}
		if answered || !o.standsStill() {
			o.noteHealth(c.next(o.state().Health, answered, age, time.Now()))
		}
		if answered {
			if !pause(ctx, settle) {
				return
			}
			o.woke(before.activity, o.sign().activity)
		}
		hostos.OwnText().Trim() // the part of the program that a check needs
	}
}

// longestPause is beyond what the pause of a save takes: a third of a second for
// a layer of 1 GB, ten times that for the largest, on a host that is slow ten
// times more. A save that takes longer writes, or hangs together with the box.
const longestPause = time.Minute

// standsStill tells whether the box may stand still to be saved.
func (o *owner) standsStill() bool {
	since := o.savingSince()
	return !since.IsZero() && time.Since(since) < longestPause
}

// noteHealth remembers what a check has found. It is written down when the
// state changes alone: a check a second would otherwise sync a file a second.
func (o *owner) noteHealth(now Health) {
	o.mu.Lock()
	same := o.run.Health.State == now.State
	if same {
		o.run.Health = now
	}
	o.mu.Unlock()
	if !same {
		o.update(func(r *Run) { r.Health = now })
	}
}
