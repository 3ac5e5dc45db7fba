package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// stream is one request on its way.
type stream struct {
	conn net.Conn
	wire *wire.Conn
	stop func() bool // ends the watch on the ctx that open was given
	ctx  context.Context
}

// open dials, exchanges hellos and sends the request. Until release, the end
// of ctx breaks the stream.
func (c *Client) open(ctx context.Context, req *Request) (*stream, Hello, error) {
	if err := req.Validate(); err != nil {
		return nil, Hello{}, err
	}
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, Hello{}, fmt.Errorf("dial the agent: %w", err)
	}
	s := &stream{conn: conn, wire: wire.NewConn(conn), ctx: ctx}
	s.stop = context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	hello, err := s.greet(req)
	if err != nil {
		return nil, Hello{}, s.fail(err)
	}
	return s, hello, nil
}

// greet sends hello and request at once, to save a round trip: an agent of
// another protocol refuses on the hello and never looks at the request.
func (s *stream) greet(req *Request) (Hello, error) {
	sent := s.wire.WriteJSON(wire.Hello, Hello{Proto: Version})
	if sent == nil {
		sent = s.wire.WriteJSON(wire.Request, req)
	}
	var hello Hello
	if err := s.expect(wire.Hello, &hello); err != nil {
		return Hello{}, firstError(sent, err)
	}
	if hello.Proto != Version {
		return Hello{}, fmt.Errorf("the agent in the box speaks protocol %d, this program %d; "+
			"restart the box with the boxlite that is installed", hello.Proto, Version)
	}
	hello.Agent, hello.BootID = printable(hello.Agent, 64), printable(hello.BootID, 64)
	if sent != nil { // it hung up: perhaps it said why
		return Hello{}, firstError(s.expect(wire.Reply, nil), sent)
	}
	return hello, nil
}

// expect reads one frame of type t into v. An error frame becomes its [*Error].
func (s *stream) expect(t wire.Type, v any) error {
	got, _, err := s.wire.Next()
	if err != nil {
		return err
	}
	return s.take(got, t, v)
}

// take decodes the frame of type got that was announced, wanting a t.
func (s *stream) take(got, t wire.Type, v any) error {
	switch got {
	case t:
		return s.wire.JSON(v)
	case wire.Error:
		return s.remote()
	}
	return fmt.Errorf("%w: type %d, want %d", wire.ErrFrame, got, t)
}

// remote reads the payload of an error frame.
func (s *stream) remote() error {
	var e Error
	if err := s.wire.JSON(&e); err != nil {
		return err
	}
	e.Message = printable(e.Message, 4096)
	if !knownKind(e.Kind) {
		e.Kind = KindFailed
	}
	return &e
}

// release stops watching ctx; it is false when ctx ended first.
func (s *stream) release() bool { return s.stop() }

// fail closes the stream and says why it broke.
func (s *stream) fail(err error) error {
	s.stop()
	s.conn.Close()
	return s.cause(err)
}

func (s *stream) cause(err error) error {
	var remote *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &remote):
		return remote
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w: %w", ErrEnded, io.ErrUnexpectedEOF)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w in the middle: %w", ErrEnded, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("agent: %w", err)
}

// ErrEnded says that the stream broke, as it does when the box dies.
var ErrEnded = errors.New("the box ended the stream")

func knownKind(k Kind) bool {
	switch k {
	case KindInvalid, KindNotFound, KindNotExecutable, KindNoUser, KindNoExecution, KindExists,
		KindPermission, KindNoSpace, KindNotDir, KindIsDir, KindBusy, KindStopping, KindFailed:
		return true
	}
	return false
}

// printable cuts s to limit bytes and replaces what a terminal or a log could
// take for an order.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}
