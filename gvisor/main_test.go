package gvisor_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// TestMain is the sentry, a starter to be killed, or the tests, which may leave
// nothing behind.
func TestMain(m *testing.M) {
	enginetest.HelperMain(gvisor.New(gvisor.Options{}))
	if os.Args[0] == starterArg0 {
		starterMain()
	}
	before := leftovers()
	code := m.Run()
	if code == 0 {
		code = checkLeaks(before)
	}
	os.Exit(code)
}

// checkLeaks waits a little for what is ending to be gone.
func checkLeaks(before string) int {
	var after string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if after = leftovers(); after == before {
			return 0
		}
	}
	fmt.Fprintf(os.Stderr, "left behind by the tests: got\n%swant\n%s", after, before)
	if strings.Contains(after, "goroutines") {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s\n", buf[:runtime.Stack(buf, true)])
	}
	return 1
}

// leftovers describes everything a machine could leave.
func leftovers() string {
	var b strings.Builder
	fmt.Fprintf(&b, "goroutines %d\n", runtime.NumGoroutine())
	fmt.Fprintf(&b, "processes %d\n", len(hostos.Descendants(os.Getpid())))
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		// Those of the poller and of this very look come and go.
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && !strings.HasPrefix(to, "anon_inode:") {
			fmt.Fprintf(&b, "fd %s %s\n", fd.Name(), to)
		}
	}
	cgroups, _ := filepath.Glob("/sys/fs/cgroup/*/boxlite-test*")
	fmt.Fprintf(&b, "cgroups %v\n", cgroups)
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "boxlite-check-*"))
	fmt.Fprintf(&b, "directories %v\n", dirs)
	return b.String()
}
