package guest

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// controlTimeout bounds Signal, Resize and Kill of a Process, which take no
// context: the agent answers them at once or the box is gone.
const controlTimeout = 10 * time.Second

// Process is a stream to one execution. Its methods are safe for concurrent
// use, except that Copy is called once.
type Process struct {
	client *Client
	s      *stream
	exec   Execution
	stdin  stdin

	onGap            func(Gap)
	lostOut, lostErr int64 // written by Copy alone
}

func (c *Client) follow(ctx context.Context, req *Request, stdin bool) (*Process, error) {
	s, _, err := c.open(ctx, req)
	if err != nil {
		return nil, err
	}
	p := &Process{client: c, s: s}
	p.stdin.p, p.stdin.closed = p, !stdin
	err = s.expect(wire.Reply, &p.exec)
	if err == nil {
		err = p.exec.check()
	}
	if err != nil {
		return nil, s.fail(err)
	}
	if !s.release() {
		return nil, s.fail(context.Cause(ctx))
	}
	s.ctx = context.WithoutCancel(ctx)
	return p, nil
}

// ID names the execution in its box.
func (p *Process) ID() string { return p.exec.ID }

// PID is the number of the process in its box.
func (p *Process) PID() int { return p.exec.PID }

// Stdin is the command's standard input. Close sends the end of file. A write
// after that, or after the command has ended, gives io.ErrClosedPipe. A write
// waits while the command does not read.
func (p *Process) Stdin() io.WriteCloser { return &p.stdin }

// Signal sends a signal to the process.
func (p *Process) Signal(sig int) error {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	return p.client.Signal(ctx, p.exec.ID, sig)
}

// Resize sets the size of the process's terminal.
func (p *Process) Resize(size Size) error {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	return p.client.Resize(ctx, p.exec.ID, size)
}

// Kill sends SIGKILL to everything the execution started.
func (p *Process) Kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	return p.client.Kill(ctx, p.exec.ID)
}

// Close detaches: the command goes on. A Copy under way returns.
func (p *Process) Close() error { return p.s.conn.Close() }

// Copy writes the output to stdout and stderr until the command has ended, and
// returns how. A nil writer discards. It calls the writers from one goroutine:
// while one blocks, neither gets more, and in time the command itself waits.
//
// When a writer fails, Copy discards what follows for it, still waits for the
// exit, and returns it with the first write error. When the stream breaks
// before the exit is known the error wraps io.ErrUnexpectedEOF: the box died,
// or what carried the stream did.
func (p *Process) Copy(stdout, stderr io.Writer) (Exit, error) {
	out, errs := sink{w: stdout}, sink{w: stderr}
	for {
		t, _, err := p.s.wire.Next()
		if err != nil {
			return Exit{}, p.s.cause(err)
		}
		switch t {
		case wire.Stdout:
			err = out.take(p.s.wire)
		case wire.Stderr:
			err = errs.take(p.s.wire)
		case wire.Gap:
			err = p.gap()
		case wire.Exit:
			var x Exit
			if err := p.exit(&x); err != nil {
				return Exit{}, p.s.cause(err)
			}
			return x, firstError(out.err, errs.err)
		default:
			err = p.s.take(t, wire.Exit, nil)
		}
		if err != nil {
			return Exit{}, p.s.cause(err)
		}
	}
}

func (p *Process) exit(x *Exit) error {
	if err := p.s.wire.JSON(x); err != nil {
		return err
	}
	return x.check()
}

// Lost is how many bytes of each output were no longer kept when Copy wanted
// them. It is valid after Copy.
func (p *Process) Lost() (stdout, stderr int64) { return p.lostOut, p.lostErr }

// OnGap sets what Copy calls when output is missing, at its place between the
// writes. It is called before Copy.
func (p *Process) OnGap(f func(Gap)) { p.onGap = f }

func (p *Process) gap() error {
	var g Gap
	if err := p.s.wire.JSON(&g); err != nil {
		return err
	}
	if g.To < 0 || g.From < 0 || g.To < g.From {
		return fmt.Errorf("%w: gap from %d to %d", wire.ErrFrame, g.From, g.To)
	}
	if g.Stderr {
		p.lostErr += g.To - g.From
	} else {
		p.lostOut += g.To - g.From
	}
	if p.onGap != nil {
		p.onGap(g)
	}
	return nil
}

func firstError(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// sink is where one output goes. After its writer failed it discards.
type sink struct {
	w   io.Writer
	err error
	buf []byte
}

// take moves the current frame to the writer. The error is the stream's.
func (k *sink) take(w *wire.Conn) error {
	if k.w == nil || k.err != nil {
		return drain(w)
	}
	if k.buf == nil {
		k.buf = make([]byte, 64<<10)
	}
	for {
		n, err := w.Read(k.buf)
		if n > 0 && k.err == nil {
			if _, werr := k.w.Write(k.buf[:n]); werr != nil {
				k.err = werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// stdin sends standard input.
type stdin struct {
	p *Process

	mu     sync.Mutex // one write at a time; Close waits for it
	closed bool
	buf    []byte
}

func (w *stdin) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	total := 0
	for len(b) > 0 {
		if w.closed {
			return total, io.ErrClosedPipe
		}
		n := min(len(b), wire.Chunk)
		w.buf = append(w.buf[:0], make([]byte, wire.HeaderLen)...)
		w.buf = append(w.buf, b[:n]...)
		if err := w.p.s.wire.WriteReserved(wire.Stdin, w.buf); err != nil {
			w.closed = true // the command ended, or the stream is gone
			return total, io.ErrClosedPipe
		}
		total += n
		b = b[n:]
	}
	return total, nil
}

// Close sends the end of file. A second Close does nothing.
func (w *stdin) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed = true
	w.buf = nil
	_ = w.p.s.wire.Write(wire.StdinEnd, nil) // fails only when nobody is there to want it
	return nil
}
