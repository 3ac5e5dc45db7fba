package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"golang.org/x/sys/unix"
)

// home makes a home with the image tiny and returns the environment that
// names it.
func home(t *testing.T, engine string) []string {
	t.Helper()
	dir := t.TempDir()
	env := append(os.Environ(), "HOME="+dir, "BOXLITE_HOME="+filepath.Join(dir, "boxlite"), engineEnv+"="+engine)
	if served(engine) {
		x := &server{vars: env}
		if err := x.start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(x.stop)
		env = append(env[:len(env):len(env)], "BOXLITE_REST_URL="+x.url)
	}
	file := filepath.Join(dir, "root.tar")
	if err := os.WriteFile(file, rootfs(engine), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, env, "import", "--cmd", "sh", "-e", "PATH="+boxPath(engine), file, "tiny")
	t.Cleanup(func() { run(t, env, "rm", "--all", "--force") })
	return env
}

// run runs boxlite to its end and returns its output.
func run(t *testing.T, env []string, args ...string) string {
	t.Helper()
	cmd := exec.Command("boxlite", args...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("boxlite %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// screen collects output, so that a test can wait for what it wants to see.
type screen struct {
	mu   sync.Mutex
	cond *sync.Cond
	b    bytes.Buffer
	end  bool
}

func newScreen() *screen {
	s := &screen{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.cond.Broadcast()
	return s.b.Write(p)
}

// see waits until text is on the screen, at most a minute.
func (s *screen) see(t *testing.T, text string) {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.end = true
		s.cond.Broadcast()
	})
	defer late.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !strings.Contains(s.b.String(), text) {
		if s.end {
			t.Fatalf("screen: got %q, want %q in it", s.b.String(), text)
		}
		s.cond.Wait()
	}
}

// console is boxlite on a terminal of its own.
type console struct {
	*screen
	cmd         *exec.Cmd
	master, tty *os.File
}

func newConsole(t *testing.T, env []string, args ...string) *console {
	t.Helper()
	master, tty := openPTY(t)
	c := &console{screen: newScreen(), master: master, tty: tty, cmd: exec.Command("boxlite", args...)}
	c.resize(t, 30, 100)
	c.cmd.Env = env
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = tty, tty, tty
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(c.screen, master) }() // ends when the test closes the terminal
	return c
}

// openPTY opens a new terminal.
func openPTY(t *testing.T) (master, tty *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return master, tty
}

func (c *console) resize(t *testing.T, rows, cols uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(c.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		t.Fatal(err)
	}
}

func (c *console) raw(t *testing.T) bool {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(c.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m.Lflag&unix.ICANON == 0
}

func (c *console) typed(t *testing.T, s string) {
	t.Helper()
	if _, err := c.master.WriteString(s); err != nil {
		t.Fatal(err)
	}
}

// code waits for the end and returns the exit code.
func code(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

// TestTerminal follows a session on a terminal: raw mode, keys, size, and all
// as before at the end.
func TestTerminal(t *testing.T) { on(t, testTerminal) }

func testTerminal(t *testing.T, engine string) {
	c := newConsole(t, home(t, engine), "run", "-it", "tiny", "sh", "-c",
		`trap 'echo interrupted' INT; trap 'stty size' WINCH; stty size; echo ready
		while :; do read line; case $line in end) exit 4;; ?*) echo "[$line]";; esac; done`)
	c.see(t, "30 100")
	c.see(t, "ready")
	c.typed(t, "word\r")
	c.see(t, "[word]")
	if !c.raw(t) {
		t.Error("terminal during the command: got cooked, want raw")
	}
	c.typed(t, "\x03")
	c.see(t, "interrupted")
	c.resize(t, 40, 120)
	c.typed(t, "\r") // a shell runs its trap when read returns
	c.see(t, "40 120")
	c.typed(t, "end\r")
	if got := code(t, c.cmd); got != 4 {
		t.Errorf("exit code: got %d, want 4", got)
	}
	if c.raw(t) {
		t.Error("terminal after the command: got raw, want as before")
	}
}

// TestTerminalIsRestoredAfterSignal ends the session from outside.
func TestTerminalIsRestoredAfterSignal(t *testing.T) { on(t, testTerminalIsRestoredAfterSignal) }

func testTerminalIsRestoredAfterSignal(t *testing.T, engine string) {
	env := home(t, engine)
	c := newConsole(t, env, "run", "-it", "tiny", "sh", "-c", "stty -echo; echo ready; sleep 600")
	c.see(t, "ready")
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := code(t, c.cmd); got < 128 {
		t.Errorf("exit code: got %d, want that of a signal", got)
	}
	if c.raw(t) {
		t.Error("terminal after the signal: got raw, want as before")
	}
	if got := run(t, env, "list", "-aq"); got != "" {
		t.Errorf("boxes left: %q", got)
	}
}

// started is boxlite without a terminal, with its output on a screen.
func started(t *testing.T, env []string, args ...string) (*exec.Cmd, *screen) {
	t.Helper()
	s := newScreen()
	cmd := exec.Command("boxlite", args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, s, s
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, s
}

// TestFirstSignalGoesToTheCommand lets it end in its own way.
func TestFirstSignalGoesToTheCommand(t *testing.T) { on(t, testFirstSignalGoesToTheCommand) }

func testFirstSignalGoesToTheCommand(t *testing.T, engine string) {
	env := home(t, engine)
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 21, syscall.SIGTERM: 22, syscall.SIGHUP: 23} {
		if !realBoxes(engine) && sig == syscall.SIGHUP {
			continue // its agent inherits from the shim that this is ignored
		}
		cmd, s := started(t, env, "run", "tiny", "sh", "-c",
			`trap 'exit 21' INT; trap 'exit 22' TERM; trap 'exit 23' HUP; echo ready; while :; do sleep 0.05; done`)
		s.see(t, "ready")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := code(t, cmd); got != want {
			t.Errorf("%v: exit code: got %d, want %d", sig, got, want)
		}
	}
	if got := run(t, env, "list", "-aq"); got != "" {
		t.Errorf("boxes left: %q", got)
	}
}

// TestSecondSignalEndsTheCommand uses force on one that ignores the first.
func TestSecondSignalEndsTheCommand(t *testing.T) { on(t, testSecondSignalEndsTheCommand) }

func testSecondSignalEndsTheCommand(t *testing.T, engine string) {
	env := home(t, engine)
	cmd, s := started(t, env, "run", "tiny", "sh", "-c",
		`trap 'echo ignored' INT; echo ready; while :; do sleep 0.05; done`)
	s.see(t, "ready")
	for _, then := range []string{"ignored", ""} {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		if then != "" {
			s.see(t, then)
		}
	}
	if got := code(t, cmd); got != 137 {
		t.Errorf("exit code: got %d, want 137", got)
	}
	if got := run(t, env, "list", "-aq"); got != "" {
		t.Errorf("boxes left: %q", got)
	}
}

// TestKilledRunLeavesNothing kills boxlite itself: the box notices.
func TestKilledRunLeavesNothing(t *testing.T) { on(t, testKilledRunLeavesNothing) }

func testKilledRunLeavesNothing(t *testing.T, engine string) {
	env := home(t, engine)
	for _, args := range [][]string{{"run"}, {"run", "--rm=false", "--name", "kept"}} {
		cmd, s := started(t, env, append(args, "tiny", "sh", "-c", "echo ready; sleep 600")...)
		s.see(t, "ready")
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	for deadline := time.Now().Add(time.Minute); run(t, env, "list", "-q") != ""; {
		if time.Now().After(deadline) {
			t.Fatal("a box still runs a minute after its run was killed")
		}
	}
	if got := run(t, env, "list", "-a", "--format", "{{.Name}} {{.Status}}"); got != "kept stopped\n" {
		t.Errorf("boxes left: got %q, want %q", got, "kept stopped\n")
	}
}

// TestAttachToTerminal finds a main command that waits on its terminal.
func TestAttachToTerminal(t *testing.T) { on(t, testAttachToTerminal) }

func testAttachToTerminal(t *testing.T, engine string) {
	env := home(t, engine)
	run(t, env, "run", "-d", "-i", "-t", "--name", "shell", "tiny", "sh", "-c",
		`echo ready; until test "$(stty size)" = "30 100"; do sleep 0.05; done; echo sized; read x; echo got $x; exit 6`)
	c := newConsole(t, env, "attach", "shell")
	c.see(t, "ready")
	c.see(t, "sized")
	c.typed(t, "word\r")
	c.see(t, "got word")
	if got := code(t, c.cmd); got != 6 {
		t.Errorf("exit code: got %d, want 6", got)
	}
	if c.raw(t) {
		t.Error("terminal after attach: got raw, want as before")
	}
}

// TestConfirm asks before all boxes are removed.
func TestConfirm(t *testing.T) {
	env := home(t, "fake")
	run(t, env, "create", "--name", "one", "tiny")
	for _, tt := range []struct {
		answer, left string
		code         int
	}{{"n", "one\n", 1}, {"yes", "", 0}} {
		c := newConsole(t, env, "rm", "-a")
		c.see(t, "remove all 1 boxes. Go on? [y/N]")
		c.typed(t, tt.answer+"\r")
		if got := code(t, c.cmd); got != tt.code {
			t.Errorf("answer %q: exit code: got %d, want %d", tt.answer, got, tt.code)
		}
		if got := run(t, env, "list", "-a", "--format", "{{.Name}}"); got != tt.left {
			t.Errorf("answer %q: boxes left: got %q, want %q", tt.answer, got, tt.left)
		}
	}
}

// TestInterruptedPull ends with one line and the code of the signal.
func TestInterruptedPull(t *testing.T) {
	asked := make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}))
	defer s.Close()
	cmd, out := started(t, home(t, "fake"), "pull", strings.TrimPrefix(s.URL, "http://")+"/slow")
	<-asked
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := code(t, cmd); got != 130 {
		t.Errorf("exit code: got %d, want 130", got)
	}
	if got := out.b.String(); got != "Error: interrupted\n" {
		t.Errorf("output: got %q, want one line", got)
	}
}

// TestProgress has what a pull shows on a terminal and in a log.
func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		age      time.Duration
		want     string
	}{
		{"terminal", true, 0, "\r\x1b[Kx: resolve \n\r\x1b[Kx: download  50%  1\n"},
		{"quick in a log", false, 0, ""},
		{"slow in a log", false, time.Minute, "x: pulling\nx: pulled 2MB in 1 minute\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			p := &progress{w: &b, terminal: tt.terminal, width: 20, begun: time.Now().Add(-tt.age)}
			p.show(boxlite.Progress{Ref: "x", Phase: "resolve"})
			p.show(boxlite.Progress{Ref: "x", Phase: "download", Done: 1e6, Total: 2e6})
			p.show(boxlite.Progress{Ref: "x", Phase: "done", Done: 2e6, Total: 2e6})
			p.end("x", nil)
			if got := b.String(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
