package enginetest

import (
	"io"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var ttyCases = []testCase{
	on("IsATerminal", testIsTerminal),
	on("ResizeArrives", testResize),
	on("ControlCInterrupts", testControlC),
	on("ControlZSuspends", testControlZ),
	on("EndOfInputEndsTheReader", testTerminalEOF),
	on("ResizeWithoutTerminalIsRefused", func(t *testing.T, b *box) {
		p := b.begin(t, guest.Command{Args: []string{"sleep", "1000"}})
		wantKind(t, "resize", p.Resize(guest.Size{Rows: 1, Cols: 1}), guest.KindInvalid)
	}),
	on("OutputIsWhole", func(t *testing.T, b *box) {
		c := sh("stty -opost; seq 1 50000")
		c.TTY = &guest.Size{}
		if got := b.run(t, c).out; got != lines("", 50000) {
			t.Errorf("output through a terminal: got %d bytes, want %d", len(got), len(lines("", 50000)))
		}
	}),
}

func tty(script string) guest.Command {
	c := sh(script)
	c.TTY, c.Stdin = &guest.Size{}, true
	return c
}

// terminal is a session that a test types in.
type terminal struct {
	p    *guest.Process
	out  *watch
	exit chan guest.Exit
}

func (b *box) terminal(t *testing.T, c guest.Command) *terminal {
	t.Helper()
	s := &terminal{b.begin(t, c), newWatch(""), make(chan guest.Exit, 1)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the terminal shows %q", s.out)
		}
	})
	go func() { // ends with the command
		x, err := s.p.Copy(s.out, nil)
		if err != nil {
			t.Errorf("Copy: %v", err)
		}
		s.exit <- x
	}()
	return s
}

func (s *terminal) types(text string) { io.WriteString(s.p.Stdin(), text) }

func testIsTerminal(t *testing.T, b *box) {
	c := sh("test -t 0 && test -t 1 && test -t 2 && stty size; echo err >&2; exit 4")
	c.TTY = &guest.Size{Rows: 33, Cols: 101}
	r := b.run(t, c)
	if r.out != "33 101\r\nerr\r\n" || r.errs != "" || r.exit.Code != 4 {
		t.Errorf("command on a terminal: got %q, %q, %+v, want its size and stderr among stdout", r.out, r.errs, r.exit)
	}
	c.TTY = &guest.Size{}
	if r := b.run(t, c); !strings.HasPrefix(r.out, "24 80") {
		t.Errorf("default size: got %q, want 24 80", r.out)
	}
}

func testResize(t *testing.T, b *box) {
	s := b.terminal(t, tty(`trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done`))
	await(t, "ready", s.out.next("ready"))
	if err := s.p.Resize(guest.Size{Rows: 50, Cols: 132}); err != nil {
		t.Fatal(err)
	}
	await(t, "the exit", s.exit)
	if got := s.out.String(); !strings.Contains(got, "50 132") {
		t.Errorf("after a resize: got %q, want 50 132", got)
	}
	if err := s.p.Resize(guest.Size{Rows: 1, Cols: 1}); err != nil {
		t.Errorf("resize of an ended command: got %v, want nil", err)
	}
}

func testControlC(t *testing.T, b *box) {
	s := b.terminal(t, tty(`trap 'echo interrupted; exit 3' INT; echo ready; while :; do sleep 0.05; done`))
	await(t, "ready", s.out.next("ready"))
	s.types("\x03")
	if x := await(t, "the exit", s.exit); x.Code != 3 || !strings.Contains(s.out.String(), "interrupted") {
		t.Errorf("^C: got %q, %+v, want the trap's 3", s.out.String(), x)
	}
	s = b.terminal(t, tty("echo ready; exec sleep 1000"))
	await(t, "ready", s.out.next("ready"))
	s.types("\x03")
	if x := await(t, "the exit", s.exit); x.Signal != 2 || x.Code != 130 || x.Killed {
		t.Errorf("^C: got %+v, want signal 2 that the user sent", x)
	}
}

func testControlZ(t *testing.T, b *box) {
	c := guest.Command{Args: []string{"sh", "-i"}}
	c.TTY, c.Stdin = &guest.Size{}, true
	s := b.terminal(t, c)
	s.types("echo star''ted; sleep 1000\n")
	await(t, "started", s.out.next("started"))
	// The shell gives the terminal to sleep after it has said so: press again
	// until it has.
	eventually(t, "^Z suspends the command in front", func() bool {
		s.types("\x1a")
		return strings.Contains(s.out.String(), "topped")
	})
	// Twice, since a shell may warn of stopped jobs at first.
	s.types("kill -9 %1; echo ba''ck\nexit 7\nexit 7\n")
	await(t, "back", s.out.next("back"))
	if x := await(t, "the exit", s.exit); x.Code != 7 {
		t.Errorf("shell after ^Z: got %+v, want 7; it said %q", x, s.out)
	}
}

func testTerminalEOF(t *testing.T, b *box) {
	s := b.terminal(t, tty("cat; echo over"))
	s.types("line\n")
	await(t, "line\r\nline\r\n", s.out.next("line\r\nline\r\n"))
	s.p.Stdin().Close()
	if x := await(t, "the exit", s.exit); x.Code != 0 || !strings.HasSuffix(s.out.String(), "over\r\n") {
		t.Errorf("end of input: got %q, %+v, want over, 0", s.out.String(), x)
	}
}
