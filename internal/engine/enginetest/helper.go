package enginetest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// starterEnv makes a test binary a process that starts one machine.
const starterEnv = "BOXLITE_TEST_STARTER"

// HelperMain is called first in TestMain. It serves the engine's own helpers,
// and the process that the suite starts a machine in to kill it.
func HelperMain(eng engine.Engine) {
	if h, ok := eng.(engine.Helper); ok {
		h.RunHelper()
	}
	text := os.Getenv(starterEnv)
	if text == "" {
		return
	}
	if err := starter(eng, text); err != nil {
		fmt.Println("error", err)
	}
	os.Exit(1)
}

// starter boots the machine, says its PID and lives until it is killed.
func starter(eng engine.Engine, text string) error {
	os.Unsetenv(starterEnv)
	var s engine.Spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	m, err := eng.Start(ctx, s)
	if err != nil {
		return err
	}
	st, ok := m.(engine.Statser)
	if !ok {
		return fmt.Errorf("machine of %s has no Stats to tell its PID", eng.Name())
	}
	stats, err := st.Stats(ctx)
	if err != nil {
		return err
	}
	if _, err := guest.NewClient(m.Dial).Start(ctx, sh("sleep 1000")); err != nil {
		return err
	}
	fmt.Println("pid", stats.PID)
	io.Copy(io.Discard, os.Stdin) // the suite never closes it before the kill
	return nil
}

// testStarterKilled kills -9 the process that started a machine.
func testStarterKilled(t *testing.T, j *judge) {
	spec, err := json.Marshal(j.spec(t))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), starterEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := machinePID(out)
	if err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("machine %d: %v", pid, err)
	}
	defer unix.Close(fd)
	cmd.Process.Kill()
	cmd.Wait()
	wantGone(t, fd, 2*time.Second)
}

func machinePID(r io.Reader) (int, error) {
	line, err := bufio.NewReader(r).ReadString('\n')
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "pid ")
	if !ok {
		return 0, fmt.Errorf("the starter says %q, %v", line, err)
	}
	return strconv.Atoi(text)
}

// wantGone waits for the end of the process behind a pidfd.
func wantGone(t *testing.T, pidfd int, within time.Duration) {
	t.Helper()
	end := time.Now().Add(within)
	for {
		left := max(time.Until(end), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			t.Fatal(err)
		case n == 0:
			t.Errorf("machine after kill -9 of its starter: alive after %v", within)
		}
		return
	}
}

// names lists a directory of the host.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// watch collects output and tells when it holds a text.
type watch struct {
	seen chan struct{} // closed then

	mu   sync.Mutex
	buf  bytes.Buffer
	text string
}

func newWatch(text string) *watch { return &watch{seen: make(chan struct{}), text: text} }

func (w *watch) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	w.checkLocked()
	return len(p), nil
}

func (w *watch) checkLocked() {
	if w.text != "" && bytes.Contains(w.buf.Bytes(), []byte(w.text)) {
		w.text = ""
		close(w.seen)
	}
}

// next waits for another text, in all that was and will be written.
func (w *watch) next(text string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.seen = text, make(chan struct{})
	w.checkLocked()
	return w.seen
}

func (w *watch) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}
