package crash

import (
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

func info(t *testing.T, b *boxlite.Box) boxlite.BoxInfo {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// becomes waits for a state of health.
func becomes(t *testing.T, b *boxlite.Box, want boxlite.HealthState) {
	t.Helper()
	boxtest.Eventually(t, 20*time.Second, string(want), func() bool { return info(t, b).Health.State == want })
}

// TestHealthOutlivesTheCaller: the owner of the box asks, so it goes on when
// whoever started the box was killed, and begins anew when the owner was.
func TestHealthOutlivesTheCaller(t *testing.T) {
	t.Parallel()
	c, b := runningAs(t, order{
		Detach: true,
		Health: &boxlite.HealthCheck{Interval: time.Second, Timeout: time.Second, StartPeriod: -1, Retries: 2},
	})
	look := func() boxlite.BoxInfo { return info(t, b) }
	becomes(t, b, boxlite.HealthHealthy)
	c.kill()
	killed := time.Now()
	boxtest.Eventually(t, 20*time.Second, "asked again", func() bool { return look().Health.LastCheck.After(killed) })

	stop := b.Command(t.Context(), "sh", "-c", "read now; kill -STOP 1")
	in, err := stop.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stop.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	becomes(t, b, boxlite.HealthUnhealthy)
	if err := syscall.Kill(look().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := stop.Wait(); err == nil {
		t.Error("a command of a box that died: got nil, want an error")
	}
	boxtest.Eventually(t, 5*time.Second, "failed", func() bool { return look().State == boxlite.StateFailed })
	if got := look().Health; got != (boxlite.Health{State: boxlite.HealthNone}) {
		t.Errorf("when its owner was killed: got %+v, want none", got)
	}
	restarted := time.Now()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := look().Health; got.State != boxlite.HealthStarting && !got.LastCheck.After(restarted) {
		t.Errorf("started again: got %+v, want starting, or the health of this run", got)
	}
	becomes(t, b, boxlite.HealthHealthy)
}

// TestHealthOfAMachineThatStandsStill: also one in which nothing runs is asked.
func TestHealthOfAMachineThatStandsStill(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		SaveInterval: -1,
		HealthCheck:  &boxlite.HealthCheck{Interval: time.Second, Timeout: time.Second, StartPeriod: -1, Retries: 2},
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	machine := boxtest.Machine(t, b)
	for _, step := range []struct {
		sig  syscall.Signal
		want boxlite.HealthState
	}{
		{0, boxlite.HealthHealthy},
		{syscall.SIGSTOP, boxlite.HealthUnhealthy},
		{syscall.SIGCONT, boxlite.HealthHealthy},
	} {
		if err := syscall.Kill(machine, step.sig); err != nil {
			t.Fatal(err)
		}
		becomes(t, b, step.want)
	}
}
