package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"golang.org/x/term"
)

const (
	// grace is how long a command may live after the first signal that asks
	// it to end. It is the grace of a stop.
	grace = 10 * time.Second
	// killGrace is how long boxlite then waits for the end of the command, and
	// of a box that ends with it. On a busy host that takes seconds; who is in
	// a hurry sends a third signal.
	killGrace = 20 * time.Second
)

var errNotTTY = errors.New("the input device is not a TTY.") //nolint:staticcheck // the words docker uses and scripts look for

// session runs a command of a box on the streams of this process. It ends
// with the command, or when a second signal asks for it.
type session struct {
	app   *app
	ctx   context.Context //nolint:containedctx // it spans the command, which takes it at its making
	stdin bool            // pass on standard input
	tty   bool            // the command is on a terminal, and so are we

	cancel context.CancelCauseFunc
	cmd    *boxlite.Cmd

	mu      sync.Mutex
	started bool
	broken  bool // nobody reads the output
	asked   int  // signals so far
	timer   *time.Timer
}

// session prepares one. The command to run is made with its ctx.
func (a *app) session(ctx context.Context, stdin, tty bool) (*session, error) {
	if tty && !isTerminal(a.stdin) {
		return nil, errNotTTY
	}
	s := &session{app: a, stdin: stdin, tty: tty}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	return s, nil
}

// run starts cmd, whose streams are not set, and passes on input, output,
// signals and the size of the terminal until it has ended. The terminal is as
// before when run returns, or panics.
func (s *session) run(cmd *boxlite.Cmd) error {
	defer s.cancel(nil)
	s.cmd = cmd
	// A pipe that nobody reads any more must end the command, not us before it.
	signal.Ignore(syscall.SIGPIPE)
	cmd.Stdout, cmd.Stderr = &pipe{s, s.app.stdout}, &pipe{s, s.app.stderr}
	if s.stdin {
		cmd.Stdin = s.app.stdin
	}
	if s.tty {
		cmd.Terminal = s.app.terminal()
	}
	restore := s.app.signals.divert(s.signal)
	defer restore()
	if err := cmd.Start(); err != nil {
		return s.cause(err)
	}
	s.mu.Lock()
	s.started = true
	s.mu.Unlock()
	defer s.stopTimer()
	if s.tty {
		leave, err := s.raw()
		if err != nil {
			return errors.Join(err, cmd.Kill())
		}
		defer leave()
	}
	err := cmd.Wait()
	s.mu.Lock()
	broken := s.broken
	s.mu.Unlock()
	if broken {
		return signalError(syscall.SIGPIPE)
	}
	return s.cause(err)
}

// pipe passes on output. When nobody reads it the command is killed, as one
// that ran here would be.
type pipe struct {
	s *session
	w io.Writer
}

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		p.s.mu.Lock()
		again := p.s.broken
		p.s.broken = true
		p.s.mu.Unlock()
		if !again {
			_ = p.s.cmd.Kill()
		}
	}
	return n, err
}

// cause puts the signal that ended the waiting in the place of what it led to.
func (s *session) cause(err error) error {
	if err != nil && s.ctx.Err() != nil {
		return context.Cause(s.ctx)
	}
	return err
}

// signal passes on the first signal, and uses force after the second one, or
// after grace. The third one gives up waiting.
func (s *session) signal(sig syscall.Signal) {
	s.mu.Lock()
	started := s.started
	s.asked++
	asked := s.asked
	s.mu.Unlock()
	switch {
	case !started || asked > 2:
		s.cancel(signalError(sig))
	case asked == 2:
		s.kill(sig)
	default:
		s.after(grace, func() { s.kill(sig) })
		_ = s.cmd.Signal(sig) // one that has ended needs none
	}
}

// kill ends the command. A box that does not answer is given up: boxlite ends,
// and an attached box with it.
func (s *session) kill(sig syscall.Signal) {
	s.after(killGrace, func() { s.cancel(signalError(sig)) })
	_ = s.cmd.Kill()
}

func (s *session) after(d time.Duration, f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(d, f)
}

func (s *session) stopTimer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

// terminal returns the size of ours, or nil if it has none.
func (a *app) terminal() *boxlite.Terminal {
	cols, rows, err := term.GetSize(int(a.stdin.Fd()))
	if err != nil {
		return &boxlite.Terminal{}
	}
	return &boxlite.Terminal{Rows: uint16(rows), Cols: uint16(cols)} // the kernel keeps them in 16 bits
}

// raw puts the terminal into raw mode and follows its size until the function
// it returns is called.
func (s *session) raw() (leave func(), err error) {
	fd := int(s.app.stdin.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, errNotTTY
	}
	winch := make(chan os.Signal, 1)
	winch <- syscall.SIGWINCH // the size may have changed since start
	signal.Notify(winch, syscall.SIGWINCH)
	var wg sync.WaitGroup
	wg.Go(func() { // ends when leave closes winch
		for range winch {
			if t := s.app.terminal(); t.Rows > 0 {
				_ = s.cmd.Resize(t.Rows, t.Cols) // a command that has ended has no size
			}
		}
	})
	return func() {
		_ = term.Restore(fd, before)
		signal.Stop(winch)
		close(winch)
		wg.Wait()
	}, nil
}

// cleanUp returns a context for taking something back after ctx has ended.
func cleanUp(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), grace+killGrace)
}
