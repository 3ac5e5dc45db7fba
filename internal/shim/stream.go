package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// maxStreams bounds the connections into a box that callers have open.
const maxStreams = 1024

// connect opens a connection into the box and returns the caller's end: a
// stream for TCP; for UDP a socket of messages, each a datagram.
func (n *network) connect(ctx context.Context, network string, port uint16) (_ *os.File, err error) {
	if err := n.enter(); err != nil {
		return nil, err
	}
	var u undo.Stack
	defer u.Run()
	u.Add(n.leave)
	inner, err := n.stack.DialContext(ctx, network, port)
	if errors.Is(err, unix.ECONNREFUSED) {
		return nil, &Fault{Kind: KindRefused, Message: err.Error()}
	}
	if err != nil {
		return nil, err
	}
	u.Add(func() { inner.Close() })
	proto, typ := egress.TCP, unix.SOCK_STREAM
	if strings.HasPrefix(network, "udp") {
		proto, typ = egress.UDP, unix.SOCK_SEQPACKET
	}
	outer, theirs, err := pair(typ)
	if err != nil {
		return nil, err
	}
	u.Keep()
	go func() { // leave tells close
		defer n.leave()
		carry(n.ctx, inner, outer, proto)
	}()
	return theirs, nil
}

// enter counts a connection that close waits for.
func (n *network) enter() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.ctx.Err() != nil:
		return &Fault{Kind: KindStopping, Message: "the box is ending"}
	case n.open >= maxStreams:
		return &Fault{Kind: KindFailed, Message: "too many connections into the box are open; close some"}
	}
	n.open++
	n.streams.Add(1)
	return nil
}

func (n *network) leave() {
	n.mu.Lock()
	n.open--
	n.mu.Unlock()
	n.streams.Done()
}

// pair returns two connected unix sockets: ours, and one to give away.
func pair(typ int) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "stream"), os.NewFile(uintptr(fds[1]), "stream")
	defer ours.Close() // FileConn works on a duplicate
	c, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return c.(*net.UnixConn), theirs, nil
}

// Buffers of a connection: whole datagrams must be read at once, and 32 KiB are
// enough of a stream.
const (
	datagramBuffer = 64 << 10
	streamBuffer   = 32 << 10
)

// carry copies both ways until both sides have ended. The end of one direction
// of TCP is passed on while the other goes on; an error ends both, as does a
// caller that is gone, the end of either side of UDP, and that of ctx.
func carry(ctx context.Context, inner net.Conn, outer *net.UnixConn, proto egress.Proto) {
	cut := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cut)
		inner.Close()
		outer.Close()
	})
	defer func() {
		if !stop() {
			<-cut // so that both are closed when this returns
		}
	}()
	var rest, gone sync.WaitGroup
	rest.Go(func() { oneWay(outer, inner, proto) })
	oneWay(inner, outer, proto)
	gone.Go(func() {
		awaitHangup(outer)
		inner.Close()
	})
	rest.Wait()
	outer.Close()
	gone.Wait()
}

// awaitHangup returns when the other end of a socket has been closed for both
// directions, or this one has. Reading tells only of one: a caller that is gone
// would look like one that waits for an answer.
func awaitHangup(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}} // a hangup is always told
		_, err := unix.Poll(p, 0)
		return err == nil && p[0].Revents&unix.POLLHUP != 0
	})
}

// oneWay copies until src ends, and passes that on.
func oneWay(dst, src net.Conn, proto egress.Proto) {
	buf := make([]byte, streamBuffer)
	if proto == egress.UDP {
		buf = make([]byte, datagramBuffer)
	}
	// Nothing but Read and Write, so that the buffer is used.
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, buf)
	half, ok := dst.(interface{ CloseWrite() error })
	if proto == egress.TCP && err == nil && ok && half.CloseWrite() == nil {
		return
	}
	dst.Close()
	src.Close()
}
