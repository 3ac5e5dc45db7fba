package enginetest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CheckLeaks runs the tests and fails the run, with code 3, if they leave
// goroutines, descriptors or processes behind. It is for TestMain:
//
//	os.Exit(enginetest.CheckLeaks(m))
func CheckLeaks(m interface{ Run() int }) int {
	// What the runtime and this check open for good is there before.
	pprof.Lookup("goroutine").Count()
	goroutines, fds := runtime.NumGoroutine(), openFiles()
	code := m.Run()
	// The fuzzer's own workers and watchers are not ours to judge.
	if fuzz := flag.Lookup("test.fuzz"); code != 0 || (fuzz != nil && fuzz.Value.String() != "") {
		return code
	}
	var problem string
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		problem = leaks(goroutines, fds)
		if problem == "" {
			return 0
		}
		if time.Now().After(end) {
			break
		}
	}
	fmt.Fprintln(os.Stderr, "leaked:", problem)
	return 3
}

func leaks(goroutines int, fds map[string]string) string {
	if n := runtime.NumGoroutine(); n > goroutines {
		var s strings.Builder
		pprof.Lookup("goroutine").WriteTo(&s, 1)
		return fmt.Sprintf("%d goroutines, %d before\n%s", n, goroutines, s.String())
	}
	for fd, to := range openFiles() {
		if _, ok := fds[fd]; !ok {
			return fmt.Sprintf("descriptor %s: %s", fd, to)
		}
	}
	pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
	if err != unix.ECHILD {
		return fmt.Sprintf("child process %d", pid)
	}
	return ""
}

// openFiles maps the open descriptors to what they name. Those of the
// runtime's poller, opened at some first use, do not count.
func openFiles() map[string]string {
	open := make(map[string]string)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return open
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || strings.HasPrefix(to, "anon_inode:[event") || strings.HasPrefix(to, "anon_inode:[pidfd") {
			continue
		}
		open[e.Name()] = to
	}
	return open
}
