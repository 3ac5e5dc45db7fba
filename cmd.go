package boxlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// Terminal is the size of one. Zero sizes mean 24 rows of 80 columns.
type Terminal struct {
	Rows, Cols uint16
}

// Cmd is a command in a box, to be used like [os/exec.Cmd]: set fields, then
// Run, Output, or Start and Wait. It is used once, and by one goroutine,
// except for Signal, Kill, Resize and ID, which any may call after Start.
//
// The context given to [Box.Command] ends only the caller's waiting: Wait
// returns its error, and the command goes on in the box. Set Timeout, or call
// Kill, to end the command.
type Cmd struct {
	// Args is the command and its arguments. Args[0] is looked up in the PATH
	// of the box.
	Args []string

	// Env is added to the environment of the image and the box, KEY=value.
	Env []string

	// Dir is where the command runs. Empty means the box's working directory.
	Dir string

	// User to run as: name or uid, optionally ":group". Empty means the box's.
	User string

	// Stdin is copied to the command. Nil means that its input is empty. When
	// the command ends, a Read that is under way is left to itself.
	Stdin io.Reader

	// Stdout and Stderr get what the command writes. Nil discards it. If both
	// are the same, only one goroutine at a time writes to it. On a terminal
	// all output goes to Stdout. A writer that is slow slows the command.
	Stdout, Stderr io.Writer

	// Terminal, if set, runs the command on a terminal of that size.
	Terminal *Terminal

	// Timeout kills the command, and everything it started, when it has run
	// that long. The box keeps the time. Zero means never.
	Timeout time.Duration

	// Security replaces the limits of the box for this command.
	Security *SecurityOptions

	box    *Box
	ctx    context.Context //nolint:containedctx // as os/exec does: it spans Start to Wait
	attach string          // id of an execution to attach to, instead of starting one
	from   AttachOptions   // with attach
	main   bool            // the main command of a job

	proc    process
	pipes   []io.Closer // our ends of pipes, closed when the command has ended
	done    chan struct{}
	exit    guest.Exit // valid after done
	copyErr error      // valid after done
	waited  bool
	end     func(error) // of the step that it is, for the tracer; nil: not begun
	stderr  *headTail   // of Output
}

// Command returns a command to run in the box. Nothing happens before Start,
// which starts the box if it does not run.
func (b *Box) Command(ctx context.Context, name string, args ...string) *Cmd {
	return &Cmd{box: b, ctx: ctx, Args: append([]string{name}, args...)}
}

// Main returns the main command of a job, to be run in the foreground: Start
// boots the box, and Wait stops it when the command has ended and its output
// has been written. If the box runs already, Start attaches to it, and Wait
// leaves it alone. Only the stream fields, Terminal and Timeout are used.
func (b *Box) Main(ctx context.Context) *Cmd {
	return &Cmd{box: b, ctx: ctx, main: true}
}

// Attach returns a command that stands for an execution in a running box.
// Start replays its kept output from the beginning and follows it; when bytes
// were dropped because they were too many, what is left is replayed. The error
// of Start is [ErrNotFound] when the box does not know the id, or no longer.
// At most one AttachOptions may be given.
//
// Signal, Kill, Resize and ID need no Start here.
func (b *Box) Attach(ctx context.Context, executionID string, o ...AttachOptions) *Cmd {
	return &Cmd{box: b, ctx: ctx, attach: executionID, from: attachOption(o)}
}

// String is the command line, for people.
func (c *Cmd) String() string { return strings.Join(c.Args, " ") }

// Start starts the command. The error is a [*CommandError] when the box has no
// such command or cannot run it.
func (c *Cmd) Start() error {
	if c.proc != nil {
		return errors.New("boxlite: command already started")
	}
	p, err := c.start()
	if err != nil {
		c.closePipes()
		return c.box.fail("exec", err)
	}
	c.proc = p
	c.done = make(chan struct{})
	if c.Stdin != nil {
		go c.feed() // ends with the command or with its reader; see Stdin
	}
	go c.copy() // Wait waits for it
	return nil
}

func (c *Cmd) start() (process, error) {
	if c.Timeout < 0 {
		return nil, fmt.Errorf("%w: timeout %v", ErrInvalid, c.Timeout)
	}
	if c.main || c.attach != "" {
		return c.box.on.start(c)
	}
	if len(c.Args) == 0 || c.Args[0] == "" {
		return nil, fmt.Errorf("%w: no command", ErrInvalid)
	}
	if err := checkArgs(c.Args, c.Env); err != nil {
		return nil, err
	}
	if err := checkText(c.Dir, c.User); err != nil {
		return nil, err
	}
	if c.Security != nil {
		if err := c.Security.check(); err != nil {
			return nil, err
		}
	}
	return c.box.on.start(c)
}

func (c *Cmd) feed() {
	w := c.proc.Stdin()
	_, _ = io.Copy(w, c.Stdin) // a command need not read its input
	w.Close()
}

func (c *Cmd) copy() {
	defer close(c.done)
	c.exit, c.copyErr = c.proc.Copy(c.Stdout, c.Stderr)
	c.closePipes()
	_ = c.proc.Close()
	if c.end != nil {
		c.end(c.outcome())
	}
}

// outcome is how the stream ended, for the tracer: without asking the box.
func (c *Cmd) outcome() error {
	switch x := c.exit; {
	case c.copyErr != nil && c.ctx.Err() != nil:
		return context.Cause(c.ctx)
	case c.copyErr != nil:
		return c.copyErr
	case x.Code != 0 || x.Cause != guest.Exited:
		return &ExitError{Code: x.Code, Signal: x.Signal, Cause: Cause(x.Cause)}
	}
	return nil
}

func (c *Cmd) closePipes() {
	for _, p := range c.pipes {
		p.Close()
	}
}

// Wait waits for the command started by Start and for its output to be
// written. The error is nil when it exited with 0, an [*ExitError] when it
// ended otherwise or the box died under it, the cause of the context when that
// ended first (the command goes on), or a failure to write its output.
func (c *Cmd) Wait() error {
	switch {
	case c.proc == nil:
		return errors.New("boxlite: command not started")
	case c.waited:
		return errors.New("boxlite: Wait was already called")
	}
	c.waited = true
	select {
	case <-c.done:
	case <-c.ctx.Done():
		if !closed(c.done) {
			c.leave()
			return c.box.fail("exec", context.Cause(c.ctx))
		}
	}
	err := c.box.on.ended(c)
	switch e, ok := errors.AsType[*ExitError](err); {
	case err == nil:
		return c.lost()
	case ok && c.stderr != nil:
		e.Stderr = c.stderr.Bytes()
	}
	return err
}

// lost says that output is missing. It is no error for an Attach, which gets
// what is left.
func (c *Cmd) lost() error {
	stdout, stderr := c.proc.Lost()
	if c.attach != "" || stdout+stderr == 0 {
		return nil
	}
	return c.box.fail("exec", fmt.Errorf("%d bytes of its output came too fast to be kept; write them to a file in the box", stdout+stderr))
}

// Run starts the command and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the command and returns what it wrote to its standard output. If
// Stderr is nil, the [ExitError] has the beginning and the end of that.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("boxlite: Stdout already set")
	}
	var out bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.stderr = &headTail{}
		c.Stderr = c.stderr
	}
	err := c.Run()
	return out.Bytes(), err
}

// CombinedOutput runs the command and returns both its outputs, in the order
// in which they arrived.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("boxlite: Stdout or Stderr already set")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// StdinPipe returns a pipe to the standard input of the command. Close it when
// there is no more.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) {
	if c.Stdin != nil {
		return nil, errors.New("boxlite: Stdin already set")
	}
	r, w := io.Pipe()
	c.Stdin = r
	c.pipes = append(c.pipes, r)
	return w, nil
}

// StdoutPipe returns a pipe from the standard output of the command. It is at
// its end when the command has ended. Read it before calling Wait.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) { return c.outPipe(&c.Stdout, "Stdout") }

// StderrPipe is like StdoutPipe, for the standard error.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) { return c.outPipe(&c.Stderr, "Stderr") }

func (c *Cmd) outPipe(to *io.Writer, name string) (io.ReadCloser, error) {
	if *to != nil {
		return nil, fmt.Errorf("boxlite: %s already set", name)
	}
	r, w := io.Pipe()
	*to = w
	c.pipes = append(c.pipes, w)
	return r, nil
}

// ID of the execution in the box, for [Box.Attach]. Empty before Start, unless
// Attach was given it.
func (c *Cmd) ID() string {
	if c.proc == nil {
		return c.attach
	}
	return c.proc.ID()
}

// Signal sends a signal to the command's process. A command that has ended is
// no error.
func (c *Cmd) Signal(sig syscall.Signal) error { return c.control(order{signal: sig}) }

// Kill ends the command and everything it started, daemons included.
func (c *Cmd) Kill() error { return c.control(order{kill: true}) }

// Resize sets the size of the command's terminal. The error is [ErrInvalid]
// when it has none.
func (c *Cmd) Resize(rows, cols uint16) error {
	return c.control(order{size: &Terminal{Rows: rows, Cols: cols}})
}

// controlTimeout bounds Signal, Kill and Resize, which take no context: the
// agent answers them at once, or the box is gone.
const controlTimeout = 10 * time.Second

func (c *Cmd) control(o order) error {
	switch {
	case c.ID() == "":
		return errors.New("boxlite: command not started")
	case c.proc != nil && closed(c.done):
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), controlTimeout)
	defer cancel()
	return c.box.fail("exec", c.box.on.control(ctx, c.ID(), o))
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Detach lets go of the command: it goes on in the box, and Wait is not to be
// called. Its output is kept in the box for [Box.Attach], the latest part of it.
func (c *Cmd) Detach() error {
	if c.proc == nil {
		return errors.New("boxlite: command not started")
	}
	if c.end != nil {
		c.end(nil) // the tracer learns no more of it
	}
	c.leave()
	return nil
}

// leave ends the stream and what copies it, pipes that nobody reads included.
func (c *Cmd) leave() {
	_ = c.proc.Close() // closed already, if the command has ended meanwhile
	c.closePipes()
	<-c.done
}
