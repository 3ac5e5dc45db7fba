package boxlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

func TestOutputAndExitCode(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	out, err := b.Command(t.Context(), "sh", "-c", "echo out; echo err >&2; exit 7").Output()
	exit, ok := errors.AsType[*boxlite.ExitError](err)
	if !ok || exit.Code != 7 || exit.Cause != boxlite.CauseExited || string(exit.Stderr) != "err\n" {
		t.Errorf("error: got %#v, want exit code 7 with stderr", err)
	}
	if string(out) != "out\n" {
		t.Errorf("output: got %q, want %q", out, "out\n")
	}
}

func TestStreamsAreExact(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	in := bytes.Repeat([]byte("\x00\xff\r\nbinary"), 1<<18)
	var out, stderr bytes.Buffer
	c := b.Command(t.Context(), "sh", "-c", "tee /dev/stderr")
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), in) || !bytes.Equal(stderr.Bytes(), in) {
		t.Errorf("got %d and %d bytes, want %d on both, equal", out.Len(), stderr.Len(), len(in))
	}
}

func TestPipes(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	c := b.Command(t.Context(), "cat")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.WriteString(in, "through")
		in.Close()
	}()
	got, err := io.ReadAll(out)
	if err != nil || string(got) != "through" {
		t.Errorf("got %q, %v, want %q", got, err, "through")
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

func TestCommandThatCannotRun(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	for _, tt := range []struct {
		name string
		code int
	}{{"no-such-command", 127}, {"/etc", 126}} {
		err := b.Command(t.Context(), tt.name).Run()
		if ce, ok := errors.AsType[*boxlite.CommandError](err); !ok || ce.Code != tt.code {
			t.Errorf("%s: got %v, want a CommandError of %d", tt.name, err, tt.code)
		} else if !strings.Contains(err.Error(), tt.name) {
			t.Errorf("%s: error %q does not name it", tt.name, err)
		}
	}
}

func TestTimeoutKillsAndSaysSo(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	c := b.Command(t.Context(), "sleep", "1000")
	c.Timeout = 100 * time.Millisecond
	exit, ok := errors.AsType[*boxlite.ExitError](c.Run())
	if !ok || exit.Cause != boxlite.CauseTimeout {
		t.Errorf("got %#v, want cause timeout", exit)
	}
}

func TestKillAndSignal(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	for name, end := range map[string]func(*boxlite.Cmd) error{
		"kill":   (*boxlite.Cmd).Kill,
		"signal": func(c *boxlite.Cmd) error { return c.Signal(syscall.SIGTERM) },
	} {
		c := b.Command(t.Context(), "sleep", "1000")
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if err := end(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		exit, ok := errors.AsType[*boxlite.ExitError](c.Wait())
		if !ok || exit.Cause != boxlite.CauseSignaled || exit.Code != 128+exit.Signal {
			t.Errorf("%s: got %#v, want cause signaled", name, exit)
		}
		if err := end(c); err != nil {
			t.Errorf("%s after the end: got %v, want nil", name, err)
		}
	}
}

func TestContextEndsWaitingOnly(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	c := b.Command(ctx, "sh", "-c", "read x; echo got $x")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	id := c.ID()
	cancel()
	if err := c.Wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Wait: got %v, want Canceled", err)
	}
	in.Close()
	// Whoever attaches finds it running, and may go on.
	a := b.Attach(t.Context(), id)
	a.Stdin = strings.NewReader("more\n")
	out, err := a.Output()
	if err != nil || string(out) != "got more\n" {
		t.Errorf("attached: got %q, %v, want %q", out, err, "got more\n")
	}
}

// A caller that has stopped to read must get out of Wait and Detach all the
// same.
func TestUnreadPipeHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	flood := func(ctx context.Context) *boxlite.Cmd {
		c := b.Command(ctx, "sh", "-c", "yes")
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // and no more
			t.Fatal(err)
		}
		return c
	}
	why := errors.New("no longer interested")
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting, letting := flood(ctx), flood(t.Context())
	cancel(why)
	ended := make(chan error, 2)
	go func() { ended <- waiting.Wait() }() // the test waits for both
	go func() { ended <- letting.Detach() }()
	for range 2 {
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, why) {
				t.Errorf("got %v, want nil or the cause of the context", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("Wait or Detach waits for a pipe that nobody reads")
		}
	}
	for _, c := range []*boxlite.Cmd{waiting, letting} {
		if err := b.Attach(t.Context(), c.ID()).Kill(); err != nil {
			t.Error(err)
		}
	}
}

func TestAttachReplays(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	c := b.Command(t.Context(), "sh", "-c", "echo one; echo two >&2; exit 3")
	if err := c.Run(); err == nil {
		t.Fatal("got nil, want exit status 3")
	}
	a := b.Attach(t.Context(), c.ID())
	out, err := a.CombinedOutput()
	exit, ok := errors.AsType[*boxlite.ExitError](err)
	if !ok || exit.Code != 3 || !strings.Contains(string(out), "one\n") || !strings.Contains(string(out), "two\n") {
		t.Errorf("got %q, %v, want both lines and exit status 3", out, err)
	}
	if err := b.Attach(t.Context(), "unknown").Run(); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("unknown id: got %v, want ErrNotFound", err)
	}
}

func TestEnvironmentAndDirectory(t *testing.T) {
	t.Setenv("HOST_SECRET", "leaked")
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{Env: []string{"A=box", "B=box"}, WorkingDir: "/workspace"})
	c := b.Command(t.Context(), "sh", "-c", `echo $FROM $A $B $HOST_SECRET; basename "$PWD"`)
	c.Env = []string{"B=call"}
	out, err := c.Output()
	if err != nil || string(out) != "image box call\nworkspace\n" {
		t.Errorf("got %q, %v, want %q", out, err, "image box call\nworkspace\n")
	}
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	var out bytes.Buffer
	c := b.Command(t.Context(), "sh", "-c", "tty >/dev/null && read x && stty size")
	c.Terminal, c.Stdout = &boxlite.Terminal{Rows: 10, Cols: 20}, &out
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if err := c.Resize(40, 120); err != nil {
		t.Error(err)
	}
	_, _ = io.WriteString(in, "go\n")
	if err := c.Wait(); err != nil || !strings.Contains(out.String(), "40 120") {
		t.Errorf("got %q, %v, want a size of 40 120", out.String(), err)
	}
	in.Close()
	plain := b.Command(t.Context(), "sleep", "1000")
	if err := plain.Start(); err != nil {
		t.Fatal(err)
	}
	if err := plain.Resize(1, 1); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("resize without a terminal: got %v, want ErrInvalid", err)
	}
	_ = plain.Kill()
	_ = plain.Wait()
}

func TestConcurrentCommandsStartTheBoxOnce(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			out, err := b.Command(t.Context(), "echo", fmt.Sprint(i)).Output()
			if err != nil || string(out) != fmt.Sprintln(i) {
				t.Errorf("command %d: got %q, %v", i, out, err)
			}
		})
	}
	wg.Wait()
}

func TestBadCommands(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	for name, change := range map[string]func(*boxlite.Cmd){
		"no command":    func(c *boxlite.Cmd) { c.Args = nil },
		"zero byte":     func(c *boxlite.Cmd) { c.Args = append(c.Args, "a\x00b") },
		"too large":     func(c *boxlite.Cmd) { c.Args = append(c.Args, strings.Repeat("x", 2<<20)) },
		"bad env":       func(c *boxlite.Cmd) { c.Env = []string{"novalue"} },
		"bad timeout":   func(c *boxlite.Cmd) { c.Timeout = -1 },
		"bad limit":     func(c *boxlite.Cmd) { c.Security = &boxlite.SecurityOptions{MaxProcesses: -1} },
		"missing dir":   func(c *boxlite.Cmd) { c.Dir = "/no/such/dir" },
		"unknown user":  func(c *boxlite.Cmd) { c.User = "nobody-here" },
		"too many args": func(c *boxlite.Cmd) { c.Args = make([]string, 5000); c.Args[0] = "true" },
	} {
		c := b.Command(t.Context(), "true")
		change(c)
		if err := c.Run(); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
}
