package shim

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/egress"
)

// maxStreams bounds the connections into a box that callers have open.
const maxStreams = 1024

// connect opens a connection into the box and returns the caller's end: a
// stream for TCP; for UDP a socket of messages, each a datagram.
func (n *network) connect(ctx context.Context, network string, port uint16) (*os.File, error) {
	if n.open.Add(1) > maxStreams {
		n.open.Add(-1)
		return nil, &Fault{Kind: KindFailed, Message: "too many connections into the box; close some"}
	}
	inner, err := n.stack.DialContext(ctx, network, port)
	if err != nil {
		n.open.Add(-1)
		if errors.Is(err, unix.ECONNREFUSED) {
			return nil, &Fault{Kind: KindRefused, Message: err.Error()}
		}
		return nil, err
	}
	proto, typ := egress.TCP, unix.SOCK_STREAM
	if strings.HasPrefix(network, "udp") {
		proto, typ = egress.UDP, unix.SOCK_SEQPACKET
	}
	outer, theirs, err := pair(typ)
	if err != nil {
		n.open.Add(-1)
		return nil, errors.Join(err, inner.Close())
	}
	n.streams.Go(func() { // ends with either side; close waits for it
		defer n.open.Add(-1)
		carry(inner, outer, proto)
	})
	return theirs, nil
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
// of TCP is passed on while the other goes on; an error ends both, as does the
// end of either side of UDP.
func carry(inner net.Conn, outer *net.UnixConn, proto egress.Proto) {
	defer inner.Close()
	defer outer.Close()
	back := make(chan struct{})
	go func() { // waited for below
		defer close(back)
		oneWay(outer, inner, proto)
	}()
	oneWay(inner, outer, proto)
	<-back
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
