package crash

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// points is at how many moments of an operation a process is killed.
func points() int {
	if boxtest.Long() {
		return 100
	}
	return 16
}

// victims find the processes to kill, given the caller.
var victims = map[string]func(t *testing.T, c *caller, o order) int{
	"caller": func(_ *testing.T, c *caller, _ order) int { return c.cmd.Process.Pid },
	"shim":   func(t *testing.T, c *caller, o order) int { return shimOf(t, o.Home) },
	"sentry": func(t *testing.T, c *caller, o order) int {
		if shim := shimOf(t, o.Home); shim != 0 {
			for _, pid := range boxtest.Children(shim) {
				return pid
			}
		}
		return 0
	},
}

// shimOf returns the process that owns the box of a home, or 0 while there is
// none.
func shimOf(t *testing.T, home string) int {
	t.Helper()
	for _, id := range ids(t, home) {
		for _, pid := range boxtest.Family() {
			if boxtest.CommandLine(pid) == "boxlite-shim "+id {
				return pid
			}
		}
	}
	return 0
}

// ids lists the directories of boxes.
func ids(t *testing.T, home string) (ids []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(home, "boxes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	return ids
}

func TestKilledAtEachStep(t *testing.T) {
	for _, tt := range []struct {
		op, victim string
		detach     bool
	}{
		{"create", "caller", false},
		{"start", "caller", false},
		{"start", "caller", true},
		{"start", "shim", false},
		{"start", "sentry", true},
		{"stop", "caller", true},
		{"stop", "shim", true},
		{"stop", "sentry", false},
		{"remove", "caller", true},
		{"remove", "shim", true},
		{"remove", "sentry", true},
	} {
		name := fmt.Sprintf("%s/%s", tt.op, tt.victim)
		if tt.detach {
			name += "/detached"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, home := boxtest.New(t, boxtest.Alpine)
			if err := rt.Close(); err != nil {
				t.Fatal(err)
			}
			sweep(t, order{Home: home, Op: tt.op, Detach: tt.detach}, tt.victim)
		})
	}
}

// sweep kills the victim at moments spread over the whole operation.
func sweep(t *testing.T, o order, victim string) {
	t.Helper()
	duration(t, o) // fills the caches
	settle(t, o, victim)
	whole := duration(t, o)
	settle(t, o, victim)
	n, hits := points(), 0
	for i := range n {
		delay := whole * time.Duration(i) / time.Duration(n-1)
		c := startCaller(t, o)
		time.Sleep(delay) // the moment is what is tested
		if pid := victims[victim](t, c, o); pid != 0 {
			hits++
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		what := fmt.Sprintf("%s, %s killed after %v of %v", o.Op, victim, delay, whole)
		if victim != "caller" {
			finished(t, c, what)
		}
		c.kill()
		settle(t, o, what)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d moments in %v found their victim", hits, n, whole)
}

// finished checks that a caller whose box lost a process does not hang: its
// operation ends, with whatever result.
func finished(t *testing.T, c *caller, what string) {
	t.Helper()
	said := make(chan error, 1)
	go func() { said <- c.expect("done") }()
	select {
	case <-said:
	case <-time.After(20 * time.Second):
		t.Errorf("%s: the caller hangs", what)
		_ = c.cmd.Process.Kill() // so that expect ends
		<-said
	}
}

// settle opens the home again as the next process would, and uses and removes
// the box that may be in it.
func settle(t *testing.T, o order, what string) {
	t.Helper()
	age(t, o.Home)
	rt, err := boxlite.Open(t.Context(), boxlite.Config{Home: o.Home, Engine: boxtest.Engine})
	if err != nil {
		t.Fatalf("%s: open: %v", what, err)
	}
	defer rt.Close()
	boxes, err := rt.Boxes(t.Context())
	if err != nil {
		t.Fatalf("%s: list: %v", what, err)
	}
	had := ids(t, o.Home)
	for _, info := range boxes {
		b, err := rt.Box(t.Context(), info.ID)
		if errors.Is(err, boxlite.ErrNotFound) {
			continue // the shim was still removing it
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if !o.Detach {
			awaitEnd(t, b, what)
		}
		use(t, o, b, what)
		if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
			t.Errorf("%s: remove: %v", what, err)
		}
	}
	for _, id := range had {
		nothingLeft(t, o.Home, id, what)
	}
}

// age makes directories old that have no lock yet: Open takes those of the
// last minute for boxes that are being made.
func age(t *testing.T, home string) {
	t.Helper()
	for _, id := range ids(t, home) {
		dir := filepath.Join(home, "boxes", id)
		if _, err := os.Stat(filepath.Join(dir, "lock")); errors.Is(err, fs.ErrNotExist) {
			then := time.Now().Add(-2 * time.Minute)
			if err := os.Chtimes(dir, then, then); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
	}
}

// awaitEnd checks that an attached box is gone within two seconds of its
// caller's end.
func awaitEnd(t *testing.T, b *boxlite.Box, what string) {
	t.Helper()
	boxtest.Eventually(t, 2*time.Second, what+": attached box ended", func() bool {
		info, err := b.Info(t.Context())
		if err != nil {
			return errors.Is(err, boxlite.ErrNotFound)
		}
		return info.State != boxlite.StateRunning && info.State != boxlite.StateStopping
	})
}

// use runs a command in the box, whatever state it was left in.
func use(t *testing.T, o order, b *boxlite.Box, what string) {
	t.Helper()
	script, want := "echo works", "works\n"
	if o.Op == "stop" {
		script, want = "cat /safe", "safe\n" // what was saved is not lost
	}
	// A box whose removal or stop is under way cannot be used, but soon.
	var out []byte
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		out, err = b.Command(t.Context(), "sh", "-c", script).Output()
		exit, ended := errors.AsType[*boxlite.ExitError](err)
		switch {
		case errors.Is(err, boxlite.ErrNotFound) && o.Op == "remove":
			return
		case errors.Is(err, boxlite.ErrState), errors.Is(err, boxlite.ErrBoxDied):
			continue
		case ended && exit.Signal != 0: // by the stop
			continue
		}
		break
	}
	if err != nil || string(out) != want {
		info, _ := b.Info(t.Context())
		t.Errorf("%s: command afterwards: got %q, %v, want %q; box: %+v", what, out, err, want, info)
	}
}

// nothingLeft checks that no trace of a removed box is on the host.
func nothingLeft(t *testing.T, home, id, what string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(home, "boxes", id)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: directory of %s: got %v, want none", what, id, err)
	}
	boxtest.Eventually(t, 5*time.Second, what+": no process of the box", func() bool {
		for _, pid := range boxtest.Family() {
			if strings.Contains(boxtest.CommandLine(pid), id) {
				return false
			}
		}
		return true
	})
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), id) {
			t.Errorf("%s: cgroup left: %s", what, path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	_ = hostos.RemoveCgroups(id) // so that one failure is not followed by more
}
