package boxlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

func health(t *testing.T, b *boxlite.Box) boxlite.Health {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Health
}

// oftenAsked finds out in some seconds.
func oftenAsked() *boxlite.HealthCheck {
	return &boxlite.HealthCheck{Interval: time.Second, Timeout: time.Second, StartPeriod: -1, Retries: 2}
}

// stopAgent stops the agent from inside the box. It goes on when goOn is
// called, and the command then ends.
func stopAgent(t *testing.T, b *boxlite.Box, shared string) (c *boxlite.Cmd, goOn func()) {
	t.Helper()
	say := func(what string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(shared, what), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// An agent that were stopped at once could not tell that this has started.
	c = b.Command(t.Context(), "sh", "-c", `
		hear() { until [ -e shared/$1 ]; do sleep 0.05; done; }
		hear stop; kill -STOP $PPID; hear go; kill -CONT $PPID`)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	say("stop")
	return c, func() { say("go") }
}

func TestHealth(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	shared := t.TempDir()
	b := newBox(t, rt, boxlite.BoxOptions{
		HealthCheck: oftenAsked(), Detach: true,
		Volumes: []boxlite.Volume{{Host: shared, Guest: "/shared"}},
	})
	none := boxlite.Health{State: boxlite.HealthNone}
	if got := health(t, b); got != none {
		t.Errorf("before its start: got %+v, want none", got)
	}
	for range 2 {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := health(t, b); got.State != boxlite.HealthStarting && got.State != boxlite.HealthHealthy {
			t.Errorf("just after its start: got %+v, want starting, or healthy on a slow host", got)
		}
		eventually(t, "healthy", func() bool { return health(t, b).State == boxlite.HealthHealthy })
		if got := health(t, b); got.Failures != 0 || time.Since(got.LastCheck).Abs() > time.Minute {
			t.Errorf("of a healthy box: got %+v, want no failures, and a check just now", got)
		}

		c, goOn := stopAgent(t, b, shared)
		eventually(t, "unhealthy", func() bool { return health(t, b).State == boxlite.HealthUnhealthy })
		if got := health(t, b); got.Failures < 2 || state(t, b) != boxlite.StateRunning {
			t.Errorf("of an unhealthy box: got %+v, %s, want the failures, and that it runs", got, state(t, b))
		}
		goOn()
		if err := c.Wait(); err != nil {
			t.Errorf("the command that stopped the agent: %v", err)
		}
		for _, said := range []string{"stop", "go"} {
			if err := os.Remove(filepath.Join(shared, said)); err != nil {
				t.Error(err)
			}
		}
		eventually(t, "healthy again", func() bool { return health(t, b).State == boxlite.HealthHealthy })

		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := health(t, b); got != none {
			t.Errorf("of a stopped box: got %+v, want none", got)
		}
	}
}

func TestNoHealthCheck(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	sh(t, b, "true")
	if got := health(t, b); got != (boxlite.Health{State: boxlite.HealthNone}) {
		t.Errorf("of a box that nobody asks: got %+v, want none", got)
	}
}

// TestHealthIsNotAskedAtOnce: it begins at starting, at each start, until the
// first interval is over.
func TestHealthIsNotAskedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{HealthCheck: &boxlite.HealthCheck{Interval: time.Hour}})
	for range 2 {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		sh(t, b, "true")
		if got := health(t, b); got != (boxlite.Health{State: boxlite.HealthStarting}) {
			t.Errorf("of a box that has not been asked: got %+v, want starting", got)
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHealthCheckOptions(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	most := boxlite.HealthCheck{Interval: 24 * time.Hour, Timeout: 24 * time.Hour, StartPeriod: 24 * time.Hour, Retries: 100}
	for _, tt := range []struct {
		name        string
		given, want boxlite.HealthCheck
		refused     string // what the error says
	}{
		{name: "defaults", want: boxlite.HealthCheck{Interval: 30 * time.Second, Timeout: 10 * time.Second, StartPeriod: time.Minute, Retries: 3}},
		{
			name:  "least",
			given: boxlite.HealthCheck{Interval: time.Second, Timeout: time.Second, StartPeriod: -1, Retries: 1},
			want:  boxlite.HealthCheck{Interval: time.Second, Timeout: time.Second, StartPeriod: -1, Retries: 1},
		},
		{name: "most", given: most, want: most},
		{
			name:  "parts of seconds",
			given: boxlite.HealthCheck{Interval: 1500 * time.Millisecond, StartPeriod: time.Millisecond},
			want:  boxlite.HealthCheck{Interval: 1500 * time.Millisecond, Timeout: 10 * time.Second, StartPeriod: time.Millisecond, Retries: 3},
		},
		{name: "short interval", given: boxlite.HealthCheck{Interval: time.Second - 1}, refused: "interval 999.999999ms: give 1s to 24h0m0s"},
		{name: "long interval", given: boxlite.HealthCheck{Interval: 24*time.Hour + 1}, refused: "interval"},
		{name: "negative interval", given: boxlite.HealthCheck{Interval: -1}, refused: "interval -1ns"},
		{name: "short timeout", given: boxlite.HealthCheck{Timeout: 1}, refused: "timeout 1ns: give 1s to 24h0m0s"},
		{name: "long timeout", given: boxlite.HealthCheck{Timeout: 48 * time.Hour}, refused: "timeout"},
		{name: "long start period", given: boxlite.HealthCheck{StartPeriod: 25 * time.Hour}, refused: "start period 25h0m0s: give at most 24h0m0s"},
		{name: "negative retries", given: boxlite.HealthCheck{Retries: -1}, refused: "retries -1: give 1 to 100"},
		{name: "many retries", given: boxlite.HealthCheck{Retries: 101}, refused: "retries 101"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			given := tt.given
			b, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: image, HealthCheck: &given})
			if given != tt.given {
				t.Errorf("the caller's options: got %+v, want them unchanged: %+v", given, tt.given)
			}
			if tt.refused != "" {
				if !errors.Is(err, boxlite.ErrInvalid) || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("got %v, want ErrInvalid that says %q", err, tt.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info, err := b.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Options.HealthCheck; got == nil || *got != tt.want {
				t.Errorf("stored: got %+v, want %+v", got, tt.want)
			}
		})
	}
}
