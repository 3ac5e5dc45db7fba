package boxlite

import (
	"cmp"
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite/internal/shim"
)

// Defaults of a health check are those of BoxLite, which are Docker's but for
// the start period. The bounds keep a check from being a load, or a promise
// that nobody lives to see kept.
const (
	defaultHealthInterval    = 30 * time.Second
	defaultHealthTimeout     = 10 * time.Second
	defaultHealthStartPeriod = time.Minute
	defaultHealthRetries     = 3
	minHealthSpan            = time.Second
	maxHealthSpan            = 24 * time.Hour
	maxHealthRetries         = 100
)

// HealthCheck asks a running box again and again whether it is well: whether
// its agent, which runs all commands, answers. What comes of it is in
// [BoxInfo.Health], and nothing else: the box is neither restarted nor stopped
// for it. Every check wakes the box, and the process that owns it makes them,
// so they go on when the caller is gone.
//
// Whether or not there is a health check, a box whose agent is silent for about
// a minute fails, with the reason in [BoxInfo.Reason]. It is seen to be
// unhealthy before that when Retries intervals and timeouts take less; with the
// defaults they take longer.
//
// The zero value of each field is its default.
type HealthCheck struct {
	// Interval is the time from the start of the box to the first check, and
	// from the end of each to the next. Zero means 30 seconds; from 1 second
	// to 24 hours.
	Interval time.Duration `json:"interval,omitempty"`

	// Timeout is how long the agent may take to answer. Zero means 10 seconds;
	// from 1 second to 24 hours. A check that fails while the box is saved, and
	// may stand still for that, does not count; a minute of it is allowed.
	Timeout time.Duration `json:"timeout,omitempty"`

	// StartPeriod is the time after the start in which failures do not count,
	// until one check has succeeded. Zero means a minute, at most 24 hours;
	// negative: none.
	StartPeriod time.Duration `json:"start_period,omitempty"`

	// Retries is how many failures in a row make the box unhealthy. Zero means
	// 3; from 1 to 100.
	Retries int `json:"retries,omitempty"`
}

// withDefaults fills in what was left out.
func (c HealthCheck) withDefaults() HealthCheck {
	c.Interval = cmp.Or(c.Interval, defaultHealthInterval)
	c.Timeout = cmp.Or(c.Timeout, defaultHealthTimeout)
	c.StartPeriod = cmp.Or(c.StartPeriod, defaultHealthStartPeriod)
	c.Retries = cmp.Or(c.Retries, defaultHealthRetries)
	return c
}

// check checks what has its defaults filled in. No check is right too.
func (c *HealthCheck) check() error {
	if c == nil {
		return nil
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"interval", c.Interval}, {"timeout", c.Timeout}} {
		if f.value < minHealthSpan || f.value > maxHealthSpan {
			return fmt.Errorf("%w: health check: %s %v: give %v to %v", ErrInvalid, f.name, f.value, minHealthSpan, maxHealthSpan)
		}
	}
	if c.StartPeriod > maxHealthSpan {
		return fmt.Errorf("%w: health check: start period %v: give at most %v, or a negative one for none", ErrInvalid, c.StartPeriod, maxHealthSpan)
	}
	if c.Retries < 1 || c.Retries > maxHealthRetries {
		return fmt.Errorf("%w: health check: retries %d: give 1 to %d", ErrInvalid, c.Retries, maxHealthRetries)
	}
	return nil
}

// HealthState is how a box is, as far as its health check has found out.
type HealthState string

// States of health.
const (
	HealthNone      HealthState = "none"      // nobody asks, or the box does not run
	HealthStarting  HealthState = "starting"  // it has not answered yet, nor failed often enough
	HealthHealthy   HealthState = "healthy"   // it has answered, and not failed [HealthCheck.Retries] times since
	HealthUnhealthy HealthState = "unhealthy" // it has; one answer makes it healthy again
)

// Health is what the health check of a box has found out.
type Health struct {
	State    HealthState `json:"state"`
	Failures int         `json:"failures"` // in a row, those of the start period not counted
	// LastCheck is when the last check ended. Zero: there was none since the
	// start of the box.
	LastCheck time.Time `json:"last_check,omitzero"`
}

func publicHealth(r shim.Run) Health {
	if r.State != shim.Running || r.Health.State == "" {
		return Health{State: HealthNone}
	}
	return Health{State: HealthState(r.Health.State), Failures: r.Health.Failures, LastCheck: r.Health.LastCheck}
}
