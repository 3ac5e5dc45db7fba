package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// Dialer opens a fresh stream to an agent.
type Dialer func(ctx context.Context) (net.Conn, error)

// Client asks the agent of one box. It is safe for concurrent use and holds
// nothing: every call dials a stream of its own. In every method the end of
// ctx ends the waiting, not what was asked for.
type Client struct {
	dial Dialer
}

// NewClient returns a client that reaches its agent through dial.
func NewClient(dial Dialer) *Client { return &Client{dial: dial} }

// call makes a request with one answer. A nil reply ignores its content.
func (c *Client) call(ctx context.Context, req *Request, reply any) error {
	s, _, err := c.open(ctx, req)
	if err != nil {
		return err
	}
	if reply == nil {
		reply = new(json.RawMessage)
	}
	err = s.cause(s.expect(wire.Reply, reply))
	s.stop()
	return errors.Join(err, s.conn.Close())
}

// maxList is the most entries a list may have. It bounds what a hostile box
// makes the host keep.
const maxList = 1 << 20

// list makes a request that answers with data frames, each a JSON array.
func list[T any](ctx context.Context, c *Client, req *Request) ([]T, error) {
	s, _, err := c.open(ctx, req)
	if err != nil {
		return nil, err
	}
	defer func() { s.stop(); s.conn.Close() }()
	var all []T
	for {
		t, _, err := s.wire.Next()
		if err != nil {
			return nil, s.cause(err)
		}
		if t == wire.End {
			return all, nil
		}
		var part []T
		if err := s.take(t, wire.Data, &part); err != nil {
			return nil, s.cause(err)
		}
		if all = append(all, part...); len(all) > maxList {
			return nil, fmt.Errorf("%w: list of more than %d entries", wire.ErrFrame, maxList)
		}
	}
}

// Ping asks the agent for its hello.
func (c *Client) Ping(ctx context.Context) (Hello, error) {
	s, hello, err := c.open(ctx, &Request{Op: OpPing})
	if err != nil {
		return Hello{}, err
	}
	err = s.cause(s.expect(wire.Reply, new(json.RawMessage)))
	s.stop()
	return hello, errors.Join(err, s.conn.Close())
}

// Start runs a command and returns when it runs. The error is an [*Error]
// when it cannot: KindNotFound, KindNotExecutable, KindNoUser, KindNotDir,
// KindExists for an id in use, KindBusy.
func (c *Client) Start(ctx context.Context, cmd Command) (*Process, error) {
	return c.follow(ctx, &Request{Op: OpStart, Command: &cmd}, cmd.Stdin)
}

// Attach follows an execution started earlier, first replaying its output from
// the offsets in o. Others may be attached at the same time. The error is an
// [*Error] of KindNoExecution when the agent does not know id.
func (c *Client) Attach(ctx context.Context, id string, o AttachOptions) (*Process, error) {
	return c.follow(ctx, &Request{Op: OpAttach, ID: id, Attach: &o}, o.Stdin)
}

// Executions lists the commands that run and those that ended and are kept,
// oldest first.
func (c *Client) Executions(ctx context.Context) ([]Execution, error) {
	all, err := list[Execution](ctx, c, &Request{Op: OpExecutions})
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := all[i].check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Execution tells about one command. The error is an [*Error] of
// KindNoExecution when the agent does not know id.
func (c *Client) Execution(ctx context.Context, id string) (Execution, error) {
	var e Execution
	if err := c.call(ctx, &Request{Op: OpExecution, ID: id}, &e); err != nil {
		return Execution{}, err
	}
	return e, e.check()
}

// Signal sends a signal to the process of an execution. One that has ended is
// no error.
func (c *Client) Signal(ctx context.Context, id string, sig int) error {
	return c.call(ctx, &Request{Op: OpSignal, ID: id, Signal: sig}, nil)
}

// Kill sends SIGKILL to everything an execution started, daemons included.
func (c *Client) Kill(ctx context.Context, id string) error {
	return c.call(ctx, &Request{Op: OpKill, ID: id}, nil)
}

// Resize sets the size of the terminal of an execution. The error is an
// [*Error] of KindInvalid when it has none.
func (c *Client) Resize(ctx context.Context, id string, size Size) error {
	return c.call(ctx, &Request{Op: OpResize, ID: id, Size: &size}, nil)
}

// Shutdown ends every process in the box: SIGTERM, after grace SIGKILL. It
// then flushes the box's file systems. From its call on the agent starts no
// command.
func (c *Client) Shutdown(ctx context.Context, grace time.Duration) error {
	return c.call(ctx, &Request{Op: OpShutdown, Grace: grace}, nil)
}

// check makes what a box says about an execution safe to keep and to print.
func (e *Execution) check() error {
	if !ValidID(e.ID) {
		return fmt.Errorf("%w: execution id %s", wire.ErrFrame, printable(fmt.Sprintf("%q", e.ID), 80))
	}
	if len(e.Args) > MaxArgs {
		return fmt.Errorf("%w: execution of %d arguments", wire.ErrFrame, len(e.Args))
	}
	for i, a := range e.Args {
		e.Args[i] = printable(a, 4096)
	}
	if e.Exit != nil {
		return e.Exit.check()
	}
	return nil
}

func (x *Exit) check() error {
	switch x.Cause {
	case Exited, Signaled, TimedOut:
	default:
		return fmt.Errorf("%w: cause %s", wire.ErrFrame, printable(string(x.Cause), 80))
	}
	if x.Code < 0 || x.Code > 255 || x.Signal < 0 || x.Signal > 64 {
		return fmt.Errorf("%w: exit code %d, signal %d", wire.ErrFrame, x.Code, x.Signal)
	}
	return nil
}

// drain reads and forgets the rest of a frame.
func drain(w *wire.Conn) error {
	_, err := io.Copy(io.Discard, w)
	return err
}
