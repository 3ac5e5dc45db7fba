package crash

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// running has a caller start a box, and returns it as another process sees it.
func running(t *testing.T, detach bool) (*caller, *boxlite.Box) {
	t.Helper()
	return runningAs(t, order{Detach: detach})
}

// runningAs is running, with the other options of the box in o.
func runningAs(t *testing.T, o order) (*caller, *boxlite.Box) {
	t.Helper()
	rt, home := boxtest.New(t, boxtest.Alpine)
	o.Home, o.Op = home, "start"
	c := startCaller(t, o)
	if err := c.expect("done"); err != nil {
		t.Fatal(err)
	}
	b, err := rt.Box(t.Context(), boxName)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := rt.Remove(ctx, boxName, boxlite.RemoveOptions{Force: true}); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return c, b
}

// sleeper starts a command that heeds no signal it can ignore, and calls
// ended with what becomes of it.
func sleeper(t *testing.T, b *boxlite.Box) (ended <-chan error) {
	t.Helper()
	c := b.Command(t.Context(), "sh", "-c", "trap '' TERM INT HUP; echo on; while :; do sleep 1000; done")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	said := make(chan error, 1)
	go func() { said <- c.Wait() }() // ends with the box
	return said
}

func TestAttachedBoxEndsWithItsCaller(t *testing.T) {
	t.Parallel()
	c, b := running(t, false)
	ended := sleeper(t, b)
	pids := append(boxtest.Children(c.cmd.Process.Pid), boxtest.Machine(t, b))
	c.kill()
	boxtest.Eventually(t, 2*time.Second, "all processes of the box are gone", func() bool {
		for _, pid := range pids {
			if boxtest.Alive(pid) {
				return false
			}
		}
		return true
	})
	if err := <-ended; err == nil {
		t.Error("its command: got nil, want an error")
	}
	info, err := b.Info(t.Context())
	if err != nil || info.State != boxlite.StateStopped || !strings.Contains(info.Reason, "let go") {
		t.Errorf("afterwards: got %s, %q, %v, want stopped, because its caller let go", info.State, info.Reason, err)
	}
}

func TestDetachedBoxOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	c, b := running(t, true)
	boxtest.Sh(t, b, "echo kept >/f")
	ended := sleeper(t, b)
	c.kill()
	// A new process finds it, its files and its commands.
	info, err := b.Info(t.Context())
	if err != nil || info.State != boxlite.StateRunning {
		t.Fatalf("after the caller was killed: got %s, %v, want running", info.State, err)
	}
	if got := boxtest.Sh(t, b, "cat /f"); got != "kept\n" {
		t.Errorf("file: got %q, want %q", got, "kept\n")
	}
	xs, err := b.Executions(t.Context())
	if err != nil || len(xs) == 0 {
		t.Errorf("executions: got %v, %v, want those of before", xs, err)
	}
	select {
	case err := <-ended:
		t.Errorf("a command in the box ended with the caller: %v", err)
	default:
	}
}

func TestDeathOfTheMachineEndsCommands(t *testing.T) {
	for name, pid := range map[string]func(*boxlite.Box) int{
		"sentry": func(b *boxlite.Box) int { return boxtest.Machine(t, b) },
		"shim": func(b *boxlite.Box) int {
			info, err := b.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return info.PID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, b := running(t, true)
			ended := sleeper(t, b)
			if err := syscall.Kill(pid(b), syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed := time.Now()
			err := <-ended
			if took := time.Since(killed); took > time.Second {
				t.Errorf("the command ended after %v, want at most 1s", took)
			}
			exit, ok := errors.AsType[*boxlite.ExitError](err)
			if !ok || exit.Cause != boxlite.CauseBoxDied || !errors.Is(err, boxlite.ErrBoxDied) {
				t.Errorf("the command: got %v, want cause %q", err, boxlite.CauseBoxDied)
			}
			info, err := b.Info(t.Context())
			if err != nil || info.State != boxlite.StateFailed || info.Reason == "" {
				t.Errorf("the box: got %s, %q, %v, want failed with a reason", info.State, info.Reason, err)
			}
			if got := boxtest.Sh(t, b, "echo again"); got != "again\n" { // starts it
				t.Errorf("afterwards: got %q, want %q", got, "again\n")
			}
		})
	}
}

// TestWhatWasSavedSurvives kills a machine that has written after the save.
func TestWhatWasSavedSurvives(t *testing.T) {
	t.Parallel()
	_, b := running(t, true)
	boxtest.Sh(t, b, "echo one >/one")
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	boxtest.Sh(t, b, "echo two >/two; rm /one")
	if err := syscall.Kill(boxtest.Machine(t, b), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	boxtest.Eventually(t, 5*time.Second, "failed", func() bool {
		info, err := b.Info(t.Context())
		return err == nil && info.State == boxlite.StateFailed
	})
	if got := boxtest.Sh(t, b, "cat /one; ls /two 2>/dev/null || true"); got != "one\n" {
		t.Errorf("files of the last save: got %q, want %q", got, "one\n")
	}
}

// TestKilledWhileSaving kills the owner of a box, or its machine, all along a
// save, and starts it again at once: the files of this save or of the one before
// are there, never a mixture.
func TestKilledWhileSaving(t *testing.T) {
	for name, victim := range map[string]func(*testing.T, *boxlite.Box) int{
		"shim": func(t *testing.T, b *boxlite.Box) int {
			info, err := b.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return info.PID
		},
		"sentry": func(t *testing.T, b *boxlite.Box) int { return boxtest.Machine(t, b) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			killedWhileSaving(t, victim)
		})
	}
}

func killedWhileSaving(t *testing.T, victim func(*testing.T, *boxlite.Box) int) {
	t.Helper()
	rt, home := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine, Detach: true})
	write := func(n string) string {
		return "for i in 1 2 3 4; do (echo " + n + "; head -c 4194304 /dev/zero) >/f$i; done"
	}
	read := func() string {
		return strings.TrimSpace(boxtest.Sh(t, b, "for i in 1 2 3 4; do echo $(head -n 1 /f$i) $(wc -c </f$i); done | sort -u | tr '\n' ' '"))
	}
	boxtest.Sh(t, b, write("0"))
	began := time.Now()
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began)
	saved := "0"
	for i, n := range strings.Split("123456789", "") {
		boxtest.Sh(t, b, write(n))
		pid := victim(t, b)
		done := make(chan error, 1)
		go func() { done <- b.Sync(t.Context()) }()
		time.Sleep(whole * time.Duration(i) / 6) // the moment is what is tested
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		complete := <-done == nil
		boxtest.Eventually(t, time.Minute, "the box has ended", func() bool {
			info, err := b.Info(t.Context())
			return err == nil && info.State != boxlite.StateRunning && info.State != boxlite.StateStopping
		})
		got := read()
		old, now := saved+" 4194306", n+" 4194306"
		switch {
		case got == now:
			saved = n
		case got != old || complete:
			t.Fatalf("save of %s cut off after %d/6 of %v (said to be complete: %v): got %q, want %q or %q", n, i, whole, complete, got, now, old)
		}
	}
	if left, _ := os.ReadDir(home + "/boxes/" + b.ID() + "/disk"); len(left) > 8 {
		t.Errorf("files in the box's disk: got %d (%v), want few", len(left), left)
	}
}
