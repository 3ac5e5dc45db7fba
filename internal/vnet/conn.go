package vnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// chunk is the size in bytes of a buffer that data is carried in. It takes what
// one segment of the link holds.
const chunk = 64 << 10

// chunks has the buffers. One is taken when there is data and given back when it
// is passed on, so idle connections hold none.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// traffic counts the bytes of a flow, and of everything that it is part of.
type traffic struct {
	sent, received atomic.Uint64 // by the box
	whole          *traffic
}

func (t *traffic) addSent(n int) {
	for ; t != nil && n > 0; t = t.whole {
		t.sent.Add(uint64(n))
	}
}

func (t *traffic) addReceived(n int) {
	for ; t != nil && n > 0; t = t.whole {
		t.received.Add(uint64(n))
	}
}

// counted is a connection of the box whose bytes are counted.
type counted struct {
	net.Conn
	count *traffic
}

// Read takes what the box has sent.
func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.count.addSent(n)
	return n, err
}

// Write sends to the box.
func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.count.addReceived(n)
	return n, err
}

// boxConn is the side of a TCP flow that is in the box.
type boxConn struct {
	counted
	tcp   *gonet.TCPConn
	ep    tcpip.Endpoint
	queue *waiter.Queue
}

// Preconditions: ep is connected, and queue is its own.
func newBoxConn(ep tcpip.Endpoint, queue *waiter.Queue, count *traffic, buffer int64) *boxConn {
	ep.SocketOptions().SetSendBufferSize(buffer, true)
	ep.SocketOptions().SetReceiveBufferSize(buffer, true)
	c := gonet.NewTCPConn(queue, ep)
	return &boxConn{counted: counted{c, count}, tcp: c, ep: ep, queue: queue}
}

// CloseWrite implements conn.
func (c *boxConn) CloseWrite() error { return c.tcp.CloseWrite() }

// WriteTo implements io.WriterTo. It knows no read deadline: Reset ends it.
func (c *boxConn) WriteTo(w io.Writer) (total int64, err error) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for {
		if c.ep.Readiness(waiter.ReadableEvents) == 0 {
			<-ready
			continue
		}
		n, err := c.pass(w)
		total += int64(n)
		if err != nil {
			return total, unlessEOF(err)
		}
	}
}

// pass carries what there is, at most a chunk.
func (c *boxConn) pass(w io.Writer) (int, error) {
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	n, err := c.Read(buf[:])
	if err != nil {
		return 0, err
	}
	return w.Write(buf[:n])
}

func unlessEOF(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// Reset implements conn.
func (c *boxConn) Reset() { c.ep.Abort() }

// linger waits, after Close, until the box has everything that was sent to it and
// has ended its side too, or takes no more for lingerTime. Until then the connection
// takes memory, so it counts as open.
func (c *boxConn) linger() {
	entry, changed := waiter.NewChannelEntry(waiter.EventHUp | waiter.EventErr | waiter.WritableEvents)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	timer := time.NewTimer(lingerTime)
	defer timer.Stop()
	for left := -1; !c.gone(); {
		select {
		case <-changed:
		case <-timer.C:
			now, err := c.ep.GetSockOptInt(tcpip.SendQueueSizeOption)
			if err != nil || now == left {
				c.Reset()
				return
			}
			left = now
			timer.Reset(lingerTime)
		}
	}
}

// gone tells whether nothing is left of a connection that matters.
func (c *boxConn) gone() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// hostConn is the side of a TCP flow that is a socket of the host.
type hostConn struct {
	*net.TCPConn
	raw syscall.RawConn
}

func newHostConn(c net.Conn) (*hostConn, error) {
	t := c.(*net.TCPConn) // of a dialer or a listener for tcp
	raw, err := t.SyscallConn()
	return &hostConn{t, raw}, err
}

// WriteTo implements io.WriterTo.
func (c *hostConn) WriteTo(w io.Writer) (total int64, err error) {
	for {
		n, err := c.pass(w)
		total += int64(n)
		if err != nil {
			return total, unlessEOF(err)
		}
	}
}

// pass waits for data and carries what there is, at most a chunk.
func (c *hostConn) pass(w io.Writer) (int, error) {
	buf, n, err := await(c.raw)
	if buf == nil {
		return 0, err
	}
	defer chunks.Put(buf)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return w.Write(buf[:n])
}

// await waits until a socket of the host has something, and reads it into a chunk
// that the caller gives back. Without a chunk the error is about waiting: the socket
// is closed, or its deadline is over.
func await(raw syscall.RawConn) (buf *[chunk]byte, n int, err error) {
	if waited := raw.Read(func(fd uintptr) bool {
		buf = chunks.Get().(*[chunk]byte)
		if n, err = receiveNow(int(fd), buf[:]); errors.Is(err, unix.EAGAIN) {
			chunks.Put(buf)
			buf = nil
		}
		return buf != nil
	}); waited != nil {
		return nil, 0, waited
	}
	return buf, n, err
}

// receiveNow reads from a socket that does not block.
func receiveNow(fd int, b []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// Reset implements conn.
func (c *hostConn) Reset() {
	_ = c.SetLinger(0) // fails only on a closed socket
	c.Close()
}
