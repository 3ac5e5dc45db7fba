package main

import (
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// Bounds of a health check, here only so that an explicit 0 can be refused.
const (
	minHealthSpan    = time.Second
	maxHealthSpan    = 24 * time.Hour
	maxHealthRetries = 100
)

// healthFlags say how a box is asked whether it is well. It is, if any of them
// is given.
type healthFlags struct {
	interval    time.Duration
	timeout     time.Duration
	startPeriod time.Duration
	retries     int
}

func (f *healthFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.Var(span(&f.interval, minHealthSpan, maxHealthSpan), "health-interval", "time between checks whether the box is well, which any --health flag turns on (default 30s)")
	fs.Var(span(&f.timeout, minHealthSpan, maxHealthSpan), "health-timeout", "time that a check may take (default 10s)")
	fs.Var(number(&f.retries, "N", 1, maxHealthRetries, parseInt), "health-retries", "failures in a row that make it unhealthy (default 3)")
	fs.Var(span(&f.startPeriod, 0, maxHealthSpan), "health-start-period", "time after the start in which failures do not count, until a check succeeds (default 1m)")
}

// options is nil where no flag was given.
func (f *healthFlags) options(cmd *cobra.Command) *boxlite.HealthCheck {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	if !given("health-interval") && !given("health-timeout") && !given("health-retries") && !given("health-start-period") {
		return nil
	}
	c := &boxlite.HealthCheck{Interval: f.interval, Timeout: f.timeout, StartPeriod: f.startPeriod, Retries: f.retries}
	if given("health-start-period") && c.StartPeriod == 0 {
		c.StartPeriod = -1
	}
	return c
}

// healthcheckView is a health check in the output of inspect; times as in "30s".
type healthcheckView struct {
	Interval    string
	Timeout     string
	StartPeriod string
	Retries     int
}

// healthView is what a health check has found out.
type healthView struct {
	Status        string // none, starting, healthy or unhealthy
	FailingStreak int
	LastCheck     *time.Time
}

func healthcheckOf(c *boxlite.HealthCheck) *healthcheckView {
	if c == nil {
		return nil
	}
	return &healthcheckView{c.Interval.String(), c.Timeout.String(), max(0, c.StartPeriod).String(), c.Retries}
}

func healthOf(h boxlite.Health) healthView {
	return healthView{string(h.State), h.Failures, optional(h.LastCheck)}
}

// String is the health for people.
func (v healthView) String() string {
	if v.FailingStreak == 0 {
		return v.Status
	}
	return fmt.Sprintf("%s, %d failed in a row", v.Status, v.FailingStreak)
}

// healthNote is what stands behind the status of a running box in a list, in
// Docker's words.
func healthNote(state boxlite.HealthState) string {
	switch state {
	case boxlite.HealthStarting:
		return " (health: starting)"
	case boxlite.HealthHealthy, boxlite.HealthUnhealthy:
		return " (" + string(state) + ")"
	}
	return ""
}
