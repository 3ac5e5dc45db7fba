package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// agentSaying is a client of an agent that says these bytes to every request,
// and then hangs up.
func agentSaying(said []byte) *Client {
	return NewClient(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs) // ends when the other closes
		go func() {                    // ends when all is said, or the other closes
			theirs.Write(said)
			theirs.Close()
		}()
		return ours, nil
	})
}

func frame(t wire.Type, payload any) []byte {
	var b bytes.Buffer
	c := wire.NewConn(&b)
	switch p := payload.(type) {
	case string:
		c.Write(t, []byte(p))
	default:
		c.WriteJSON(t, p)
	}
	return b.Bytes()
}

// hello is what an agent of ours starts with.
func hello(frames ...[]byte) []byte {
	return bytes.Join(append([][]byte{frame(wire.Hello, Hello{Proto: Version, Agent: "1.0", BootID: "b"})}, frames...), nil)
}

func TestOtherProtocolIsRefusedWithBothNumbers(t *testing.T) {
	c := agentSaying(frame(wire.Hello, Hello{Proto: 42}))
	_, err := c.Ping(t.Context())
	if err == nil || !strings.Contains(err.Error(), "42") || !strings.Contains(err.Error(), fmt.Sprint(Version)) {
		t.Errorf("agent of protocol 42: got %v, want both numbers", err)
	}
}

// calls are all requests, each to its end.
var calls = map[string]func(ctx context.Context, c *Client) error{
	"ping":       func(ctx context.Context, c *Client) error { _, err := c.Ping(ctx); return err },
	"executions": func(ctx context.Context, c *Client) error { _, err := c.Executions(ctx); return err },
	"execution":  func(ctx context.Context, c *Client) error { _, err := c.Execution(ctx, "x"); return err },
	"stat":       func(ctx context.Context, c *Client) error { _, err := c.Stat(ctx, "/x"); return err },
	"readdir":    func(ctx context.Context, c *Client) error { _, err := c.ReadDir(ctx, "/x"); return err },
	"readlink":   func(ctx context.Context, c *Client) error { _, err := c.Readlink(ctx, "/x"); return err },
	"start":      follow,
	"copyin": func(ctx context.Context, c *Client) error {
		return c.CopyIn(ctx, CopyIn{Path: "/x"}, strings.NewReader("tar"))
	},
	"copyout": func(ctx context.Context, c *Client) error {
		f, err := c.CopyOut(ctx, CopyOut{Path: "/x"})
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(io.Discard, f)
		f.Skipped()
		return err
	},
}

func follow(ctx context.Context, c *Client) error {
	p, err := c.Start(ctx, Command{Args: []string{"x"}})
	if err != nil {
		return err
	}
	defer p.Close()
	_, err = p.Copy(io.Discard, io.Discard)
	return err
}

func TestHostileAgentsAreRefused(t *testing.T) {
	started := frame(wire.Reply, Execution{ID: "x", Args: []string{"x"}})
	for _, tt := range []struct {
		call, name string
		said       []byte
	}{
		{"ping", "no hello", frame(wire.Reply, "{}")},
		{"ping", "garbage", []byte("HTTP/1.1 200 OK\r\n\r\n")},
		{"ping", "unknown field", frame(wire.Hello, `{"proto":1,"x":1}`)},
		{"ping", "wrong frame", hello(frame(wire.Stdout, "x"))},
		{"ping", "hang up", hello()},
		{"executions", "malformed id", hello(frame(wire.Data, []Execution{{ID: "../x"}}), frame(wire.End, ""))},
		{"executions", "list that just ends", hello(frame(wire.Data, []Execution{{ID: "x"}}))},
		{"execution", "exit code", hello(frame(wire.Reply, Execution{ID: "x", Exit: &Exit{Code: 1 << 20, Cause: Exited}}))},
		{"execution", "cause", hello(frame(wire.Reply, Execution{ID: "x", Exit: &Exit{Cause: "\x1b[2J"}}))},
		{"stat", "name with a slash", hello(frame(wire.Reply, FileStat{Name: []byte("../x")}))},
		{"stat", "name dot dot", hello(frame(wire.Reply, FileStat{Name: []byte("..")}))},
		{"stat", "negative size", hello(frame(wire.Reply, FileStat{Name: []byte("x"), Size: -1}))},
		{"readdir", "name with zero", hello(frame(wire.Data, []FileStat{{Name: []byte("a\x00")}}), frame(wire.End, ""))},
		{"readlink", "long link", hello(frame(wire.Reply, bytes.Repeat([]byte("x"), MaxPath+1)))},
		{"start", "malformed id", hello(frame(wire.Reply, Execution{ID: "a b"}))},
		{"start", "unknown signal", hello(started, frame(wire.Exit, Exit{Signal: 99, Cause: Signaled}))},
		{"start", "gap backwards", hello(started, frame(wire.Gap, Gap{From: 9, To: 1}))},
		{"start", "wrong frame", hello(started, frame(wire.Data, "x"))},
		{"start", "hang up", hello(started, frame(wire.Stdout, "x"))},
		{"copyout", "hang up", hello(frame(wire.Reply, FileStat{Name: []byte("x")}), frame(wire.Data, "x"))},
		{"copyout", "wrong frame", hello(frame(wire.Reply, FileStat{Name: []byte("x")}), frame(wire.Stdout, "x"))},
		{"copyin", "hang up", hello()},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := calls[tt.call](ctx, agentSaying(tt.said))
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s, %s: got %v, want an error at once", tt.call, tt.name, err)
		}
		cancel()
	}
}

func TestErrorsOfAgentsAreMadePrintable(t *testing.T) {
	said := hello(frame(wire.Error, Error{Kind: "made\x1bup", Message: "\x1b[31mred\r\n\x00" + strings.Repeat("x", 1<<16)}))
	_, err := agentSaying(said).Stat(t.Context(), "/x")
	var e *Error
	if !errors.As(err, &e) || e.Kind != KindFailed || strings.ContainsAny(e.Message, "\x1b\r\n\x00") || len(e.Message) > 5000 {
		t.Errorf("hostile error: got kind %q, %d bytes, want failed, bounded, printable", e.Kind, len(e.Message))
	}
	said = hello(frame(wire.Error, Error{Kind: KindNotFound, Message: "no file"}))
	if _, err := agentSaying(said).Stat(t.Context(), "/x"); !errors.Is(err, fs.ErrNotExist) || err.Error() != "no file" {
		t.Errorf("not found: got %v, want fs.ErrNotExist and its message", err)
	}
	e1 := Execution{ID: "x", Args: []string{"a\x1b]0;title\x07", strings.Repeat("x", 10000)}}
	got, err := agentSaying(hello(frame(wire.Reply, e1))).Execution(t.Context(), "x")
	if err != nil || strings.ContainsAny(got.Args[0], "\x1b\x07") || len(got.Args[1]) > 5000 {
		t.Errorf("hostile arguments: got %.100q, %v, want them printable", got.Args, err)
	}
}

func TestBrokenStreamIsUnexpectedEOF(t *testing.T) {
	said := hello(frame(wire.Reply, Execution{ID: "x"}), frame(wire.Stdout, "part"))
	for cut := len(said) - 6; cut <= len(said); cut++ {
		p, err := agentSaying(said[:cut]).Start(t.Context(), Command{Args: []string{"x"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Copy(nil, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("stream cut at %d: got %v, want io.ErrUnexpectedEOF", cut, err)
		}
		p.Close()
	}
}

func TestContextEndsEveryCall(t *testing.T) {
	silent := NewClient(func(context.Context) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go io.Copy(io.Discard, theirs) // ends when ours is closed
		return ours, nil
	})
	for name, call := range calls {
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Millisecond, func() { cancel(cause) })
		if err := call(ctx, silent); !errors.Is(err, cause) {
			t.Errorf("%s of a silent agent: got %v, want the cause", name, err)
		}
	}
}

func TestRequestsAreBounded(t *testing.T) {
	long := strings.Repeat("x", MaxPath+1)
	for _, r := range []Request{
		{},
		{Op: "nonsense"},
		{Op: OpStart},
		{Op: OpAttach},
		{Op: OpAttach, ID: "x"},
		{Op: OpKill, ID: strings.Repeat("x", 65)},
		{Op: OpAttach, ID: "x", Attach: &AttachOptions{StdoutFrom: -1}},
		{Op: OpShutdown, Grace: -1},
		{Op: OpSignal, ID: "x"},
		{Op: OpSignal, ID: "x", Signal: -9},
		{Op: OpResize, ID: "x"},
		{Op: OpCopyIn},
		{Op: OpCopyIn, In: &CopyIn{Path: "x"}},
		{Op: OpCopyIn, In: &CopyIn{Path: "/x", User: "a b"}},
		{Op: OpCopyOut},
		{Op: OpCopyOut, Out: &CopyOut{}},
		{Op: OpStat, Path: []byte("/" + long)},
		{Op: OpRename, Path: []byte("/x")},
		{Op: OpStart, Command: &Command{Args: []string{"x"}, Dir: long}},
		{Op: OpStart, Command: &Command{Args: []string{"x"}, Env: []string{"A"}}},
		{Op: OpStart, Command: &Command{Args: []string{"x"}, Keep: -1}},
	} {
		var e *Error
		if err := r.Validate(); !errors.As(err, &e) || e.Kind != KindInvalid {
			t.Errorf("%+v: got %v, want KindInvalid", r, err)
		}
	}
	for _, r := range []Request{
		{Op: OpPing},
		{Op: OpStart, Command: &Command{Args: []string{"x"}}},
		{Op: OpStat, Path: []byte("/\xff")},
		{Op: OpCopyIn, In: &CopyIn{Path: "/x", User: "1:2"}},
		{Op: OpSignal, ID: "x", Signal: 64},
	} {
		if err := r.Validate(); err != nil {
			t.Errorf("%+v: got %v, want nil", r, err)
		}
	}
}

// FuzzAgent lets an agent say anything to every request: the client ends with
// an answer or an error, and never panics.
func FuzzAgent(f *testing.F) {
	f.Add(hello(frame(wire.Reply, Execution{ID: "x"}), frame(wire.Stdout, "out"), frame(wire.Exit, Exit{Cause: Exited})))
	f.Add(hello(frame(wire.Reply, FileStat{Name: []byte("x")}), frame(wire.Data, "data"), frame(wire.End, Trailer{Skipped: []string{"a"}})))
	f.Add(hello(frame(wire.Data, []FileStat{{Name: []byte("x")}}), frame(wire.End, "")))
	f.Add(hello(frame(wire.Error, Error{Kind: KindBusy, Message: "\xff"})))
	f.Add(hello(frame(wire.Gap, Gap{To: 1 << 62})))
	f.Fuzz(func(t *testing.T, said []byte) {
		for name, call := range calls {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			call(ctx, agentSaying(said))
			if ctx.Err() != nil {
				t.Errorf("%s does not end", name)
			}
			cancel()
		}
	})
}

// FuzzRequest decodes and checks any bytes as an agent does.
func FuzzRequest(f *testing.F) {
	for _, r := range []Request{
		{Op: OpStart, Command: &Command{Args: []string{"sh"}, Env: []string{"A=b"}, TTY: &Size{}, Limits: Limits{OpenFiles: 1}}},
		{Op: OpCopyIn, In: &CopyIn{Path: "/x"}},
		{Op: OpAttach, ID: "x", Attach: &AttachOptions{}},
	} {
		b, err := json.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		if wire.Decode(in, &r) != nil || r.Validate() != nil {
			return
		}
		if r.Op == OpStart && (len(r.Command.Args) == 0 || len(r.Command.Args) > MaxArgs) {
			t.Errorf("accepted %d arguments", len(r.Command.Args))
		}
		if r.Op == OpStat && (len(r.Path) == 0 || len(r.Path) > MaxPath || r.Path[0] != '/') {
			t.Errorf("accepted path %q", r.Path)
		}
	})
}
