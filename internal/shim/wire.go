package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"golang.org/x/sys/unix"
)

// The socket of a box is of type SOCK_SEQPACKET: one request a message, one
// reply a message, JSON. A reply to "dial" carries a descriptor.

// maxMessage bounds a message. The largest is a status with a reason in it.
const maxMessage = 64 << 10

type request struct {
	Op      string        `json:"op"`
	Grace   time.Duration `json:"grace,omitempty"`
	Discard bool          `json:"discard,omitempty"`
	Network string        `json:"network,omitempty"`
	Port    uint16        `json:"port,omitempty"`
}

// Operations.
const (
	opDial   = "dial"
	opStatus = "status"
	opStats  = "stats"
	opSync   = "sync"
	opStop   = "stop"
	opFollow = "follow" // the starter has started the main command itself

	opConnect = "connect" // to a port of the box; the reply carries the connection
	opPolicy  = "policy"  // the request carries a file with the new policy, in JSON
)

type reply struct {
	Fault *Fault        `json:"fault,omitempty"`
	Run   *Run          `json:"run,omitempty"`
	Stats *engine.Stats `json:"stats,omitempty"`
	Net   *NetworkStats `json:"net,omitempty"` // nil: the box has no network

	// When the engine began to start the machine, and when it had: with the
	// first word to the starter.
	BootBegin time.Time `json:"boot_begin,omitzero"`
	BootEnd   time.Time `json:"boot_end,omitzero"`
}

// Kind names what went wrong in a shim, over the wire.
type Kind string

// Kinds of fault.
const (
	KindBusy        Kind = "busy"        // another process has the box
	KindGone        Kind = "gone"        // the box was removed
	KindUnsupported Kind = "unsupported" // the engine cannot work here
	KindCommand     Kind = "command"     // the main command could not be run
	KindNoSpace     Kind = "no_space"
	KindTaken       Kind = "taken"   // a port of the host is in use
	KindRefused     Kind = "refused" // nothing listens on the port of the box
	KindStopping    Kind = "stopping"
	KindFailed      Kind = "failed"
)

// Fault is an error that crossed from a shim to its caller.
type Fault struct {
	Kind    Kind         `json:"kind"`
	Message string       `json:"message"`
	Command *guest.Error `json:"command,omitempty"` // why the main command could not be run
}

func (f *Fault) Error() string { return f.Message }

// faultOf turns any error into one that can be sent.
func faultOf(err error) *Fault {
	if f, ok := errors.AsType[*Fault](err); ok {
		return f
	}
	f := &Fault{Kind: KindFailed, Message: err.Error()}
	if len(f.Message) > 4096 {
		f.Message = f.Message[:4096]
	}
	if _, ok := errors.AsType[*engine.Unsupported](err); ok {
		f.Kind = KindUnsupported
	}
	if errors.Is(err, unix.ENOSPC) {
		f.Kind = KindNoSpace
	}
	return f
}

// ErrNotRunning says that no shim answers for the box.
var ErrNotRunning = errors.New("box is not running")

// Client talks to the shim of the box in a directory. The zero value is not
// usable; it is safe for concurrent use. Each call opens a connection.
type Client struct{ dir string }

// NewClient returns a client of the box in dir, running or not.
func NewClient(dir string) *Client { return &Client{dir} }

// Dial opens a fresh stream to the agent in the box.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	_, f, err := c.call(ctx, request{Op: opDial})
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errors.New("shim sent no stream")
	}
	defer f.Close()
	return net.FileConn(f)
}

// Status asks the shim what the box is doing.
func (c *Client) Status(ctx context.Context) (Run, error) {
	r, _, err := c.call(ctx, request{Op: opStatus})
	if err != nil || r.Run == nil {
		return Run{}, err
	}
	return *r.Run, nil
}

// Stats asks what the machine uses, and what it did on the network: nil if it
// has none.
func (c *Client) Stats(ctx context.Context) (engine.Stats, *NetworkStats, error) {
	r, _, err := c.call(ctx, request{Op: opStats})
	if err != nil || r.Stats == nil {
		return engine.Stats{}, nil, err
	}
	return *r.Stats, r.Net, nil
}

// Connect connects to a port of the box. The network is "tcp" or "udp", with 4
// or 6 at its end for one family alone. It is a stream for TCP; for UDP each
// message is a datagram. The error is a [*Fault] of KindRefused when nothing
// listens there.
func (c *Client) Connect(ctx context.Context, network string, port uint16) (*net.UnixConn, error) {
	_, f, err := c.call(ctx, request{Op: opConnect, Network: network, Port: port})
	if err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errors.New("shim sent no connection")
	}
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// maxPolicy bounds a policy in JSON: a thousand rules of the longest kind.
const maxPolicy = 1 << 20

// SetPolicy changes what the running box may reach.
func (c *Client) SetPolicy(ctx context.Context, p egress.Policy) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	f, err := memoryFile("policy", b)
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = c.send(ctx, request{Op: opPolicy}, f)
	return err
}

// memoryFile has content and no name.
func memoryFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.WriteAt(content, 0); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Sync saves the writable layer.
func (c *Client) Sync(ctx context.Context) error {
	_, _, err := c.call(ctx, request{Op: opSync})
	return err
}

// Follow tells the shim that the caller has started the main command, so that
// its output is logged and its exit kept.
func (c *Client) Follow(ctx context.Context) error {
	_, _, err := c.call(ctx, request{Op: opFollow})
	return err
}

// StopOptions say how to stop a box. The zero value ends it at once and saves
// its files.
type StopOptions struct {
	Grace   time.Duration // what commands get between SIGTERM and SIGKILL
	Discard bool          // do not save its files
}

// Stop ends the box. It returns when the box is stopped and its lock is free. The error is
// [ErrNotRunning] when it was not running.
func (c *Client) Stop(ctx context.Context, o StopOptions) error {
	_, _, err := c.call(ctx, request{Op: opStop, Grace: o.Grace, Discard: o.Discard})
	return err
}

// call sends one request and waits for its reply, or for the end of ctx.
func (c *Client) call(ctx context.Context, req request) (reply, *os.File, error) {
	return c.send(ctx, req, nil)
}

// send is call for a request that carries a file, if with is not nil.
func (c *Client) send(ctx context.Context, req request, with *os.File) (reply, *os.File, error) {
	conn, err := dialSocket(ctx, c.dir)
	if err != nil {
		return reply{}, nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	r, f, err := exchange(conn, req, with)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r, f, err
}

func exchange(conn *net.UnixConn, req request, with *os.File) (r reply, f *os.File, err error) {
	b, err := json.Marshal(req)
	if err != nil {
		return r, nil, err
	}
	if with != nil {
		err = sendWith(conn, b, with)
	} else {
		_, err = conn.Write(b)
	}
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", ErrNotRunning, err)
	}
	b, f, err = receive(conn)
	if err != nil {
		return r, nil, fmt.Errorf("%w: its shim closed the connection", ErrNotRunning)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, f, fmt.Errorf("reply of the shim: %w", err)
	}
	if r.Fault != nil {
		return r, f, r.Fault
	}
	return r, f, nil
}

// receive reads one message and the descriptor it may carry.
func receive(conn *net.UnixConn) ([]byte, *os.File, error) {
	b, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4))
	n, oobn, flags, _, err := conn.ReadMsgUnix(b, oob)
	switch {
	case err != nil:
		return nil, nil, err
	case n == 0:
		return nil, nil, io.EOF
	case flags&unix.MSG_TRUNC != 0:
		return nil, nil, fmt.Errorf("message of more than %d bytes", maxMessage)
	}
	return b[:n], fileIn(oob[:oobn]), nil
}

func fileIn(oob []byte) *os.File {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "stream")
}

// dialSocket connects to the box in dir. The socket is named through a
// descriptor of the directory, since a socket's path may have 107 bytes only.
func dialSocket(ctx context.Context, dir string) (*net.UnixConn, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "unixpacket", socketPath(d))
	switch {
	case err == nil:
		return conn.(*net.UnixConn), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNotRunning
	}
	return nil, err
}

func socketPath(dir *os.File) string {
	return filepath.Join("/proc/self/fd", fmt.Sprint(dir.Fd()), socketName)
}
