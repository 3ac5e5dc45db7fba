package real

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestLimitsHoldForRoot tries to exceed the limits of MaximumSecurity as root
// of the box.
func TestLimitsHoldForRoot(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Security: boxlite.MaximumSecurity()})
	for what, tt := range map[string]struct{ script, want string }{
		"files": {`
import os
n = 0
try:
    while True: os.open("/dev/null", 0); n += 1
except OSError as e: print(1000 < n <= 1024, e.strerror)`, "True Too many open files\n"},
		"file size": {`
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
f = os.open("/big", os.O_WRONLY | os.O_CREAT)
try:
    print(os.pwrite(f, b"x", (1 << 30) - 1)); os.pwrite(f, b"x", 1 << 30)
except OSError as e: print(e.strerror)`, "1\nFile too large\n"},
		"processes": {`
import os, time
n = 1
try:
    while True:
        if os.fork() == 0: time.sleep(60)
        n += 1
except OSError as e: print(n, e.strerror)`, "100 Resource temporarily unavailable\n"},
		"raising": {`
import resource
for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
    soft, hard = resource.getrlimit(r)
    print(soft == hard, hard)`, "True 1024\nTrue 1073741824\n"},
	} {
		c := b.Command(t.Context(), "python", "-c", tt.script)
		out, err := c.Output()
		_ = c.Kill()
		if err != nil || string(out) != tt.want {
			t.Errorf("%s: got %q, %v, want %q", what, out, err, tt.want)
		}
	}
}

// TestNothingOfTheHostIsInABox looks for the environment of the host.
func TestNothingOfTheHostIsInABox(t *testing.T) {
	t.Setenv("HOST_SECRET", "of the host")
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Env: []string{"MINE=1"}})
	env := boxtest.Sh(t, b, "env")
	if strings.Contains(env, "SECRET") || !strings.Contains(env, "MINE=1\n") {
		t.Errorf("environment: got\n%swant that of the image and the box alone", env)
	}
}

// TestConcurrentCommandsInOneBox runs many at once; each gets its own output.
func TestConcurrentCommandsInOneBox(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			word := strings.Repeat("x", i+1)
			out, err := b.Command(t.Context(), "sh", "-c", "sleep 0.1; echo "+word).Output()
			if err != nil || string(out) != word+"\n" {
				t.Errorf("command %d: got %q, %v, want %q", i, out, err, word+"\n")
			}
		})
	}
	wg.Wait()
}

// TestTimeoutKillsTheWholeTree starts daemons that try to get away.
func TestTimeoutKillsTheWholeTree(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	c := b.Command(t.Context(), "sh", "-c", "setsid sleep 4321 & (trap '' TERM; sleep 4321) & sleep 4321")
	c.Timeout = 300 * time.Millisecond
	exit, ok := errors.AsType[*boxlite.ExitError](c.Run())
	if !ok || exit.Cause != boxlite.CauseTimeout {
		t.Errorf("got %v, want cause %q", exit, boxlite.CauseTimeout)
	}
	if got := boxtest.Sh(t, b, "ps | grep -c '[s]leep 4321' || true"); got != "0\n" {
		t.Errorf("processes left: got %q, want %q", got, "0\n")
	}
}
