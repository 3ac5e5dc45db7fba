package vnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// handleUDP takes the first datagram of a flow, or leaves it to the stack, which
// then answers that the port is unreachable. It is the one ICMP error that a
// program is told of on gVisor and Linux alike, so it notices at once.
//
// It is called by the reader of the link and must not wait for the box.
func (n *Network) handleUDP(r *udp.ForwarderRequest) bool {
	id := r.ID()
	f := n.describe(egress.UDP, addrPortOf(id.LocalAddress, id.LocalPort))
	v, ok := n.decide(f)
	if !ok {
		return false
	}
	fl, ok := n.begin(f, egress.Out, v)
	if !ok {
		return false
	}
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	if err != nil {
		n.end(fl)
		return true
	}
	box := newBoxPort(ep, queue, &fl.traffic)
	from := addrPortOf(id.RemoteAddress, id.RemotePort)
	go func() { // end tells
		defer n.end(fl)
		defer box.Close()
		n.serveUDP(fl, box, from)
	}()
	return true
}

// serveUDP carries datagrams both ways until there are none for a while.
func (n *Network) serveUDP(fl *flow, box *boxPort, from netip.AddrPort) {
	c, err := dialHost(fl.ctx, "udp", fl.net.target(fl.Dst))
	if err != nil {
		n.link.send([][]byte{unreachable(fl.Dst, from, portUnreachable)})
		return
	}
	host, err := newHostPort(c)
	if err != nil {
		return
	}
	host.refused = func() { n.link.send([][]byte{unreachable(fl.Dst, from, portUnreachable)}) }
	idle := udpIdle
	if fl.Dst.Port() == dnsPort {
		idle = dnsIdle
	}
	converse(fl, box, host, idle)
}

// datagrams is one side of a UDP flow. pass waits for a datagram and hands it on;
// an error is the end of the flow, and Close makes it return one.
type datagrams interface {
	io.WriteCloser
	pass(w io.Writer) error
}

// converse carries datagrams both ways until there are none for the time idle, or
// the flow is reset. It closes both sides.
func converse(fl *flow, a, b datagrams, idle time.Duration) {
	w := watch(fl, idle, func() { a.Close(); b.Close() })
	defer w.stop()
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		w.carry(a, b)
	}()
	w.carry(b, a)
	<-done
}

// watcher ends a UDP flow that is idle.
type watcher struct {
	since time.Time
	last  atomic.Int64 // when the latest datagram was, in nanoseconds after since
	timer *time.Timer
	shut  func()
}

// watch calls shut when there is no datagram for the time idle, and when the flow
// is reset. It may be called more than once.
func watch(fl *flow, idle time.Duration, shut func()) *watcher {
	w := &watcher{since: time.Now(), shut: shut}
	fl.onReset(shut)
	w.timer = time.AfterFunc(2*idle, func() { // set right below, when timer is known here
		if left := idle - (time.Since(w.since) - time.Duration(w.last.Load())); left > 0 {
			w.timer.Reset(left)
		} else {
			shut()
		}
	})
	w.timer.Reset(idle)
	return w
}

// touch says that there was a datagram.
func (w *watcher) touch() { w.last.Store(int64(time.Since(w.since))) }

// carry hands on the datagrams of one direction until one side is closed.
func (w *watcher) carry(to io.Writer, from datagrams) {
	for from.pass(to) == nil {
		w.touch()
	}
	w.shut()
}

func (w *watcher) stop() { w.timer.Stop() }

// boxPort is the side of a UDP flow that is in the box.
type boxPort struct {
	counted
	ep    tcpip.Endpoint
	queue *waiter.Queue
}

// Preconditions: ep is connected, and queue is its own.
func newBoxPort(ep tcpip.Endpoint, queue *waiter.Queue, count *traffic) *boxPort {
	return &boxPort{counted: counted{gonet.NewUDPConn(queue, ep), count}, ep: ep, queue: queue}
}

// pass implements datagrams. A datagram that cannot be delivered is lost.
func (p *boxPort) pass(w io.Writer) error {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	p.queue.EventRegister(&entry)
	defer p.queue.EventUnregister(&entry)
	for p.ep.Readiness(waiter.ReadableEvents) == 0 {
		<-ready
	}
	buf := chunks.Get().(*[chunk]byte)
	defer chunks.Put(buf)
	n, err := p.Read(buf[:])
	if err != nil {
		return err
	}
	_, _ = w.Write(buf[:n])
	return nil
}

// hostPort is the side of a UDP flow that is a socket of the host.
type hostPort struct {
	net.Conn
	raw     syscall.RawConn
	refused func() // called when the other end says that nobody listens; or nil
}

func newHostPort(c net.Conn) (*hostPort, error) {
	raw, err := c.(syscall.Conn).SyscallConn()
	return &hostPort{Conn: c, raw: raw}, err
}

func (p *hostPort) Write(b []byte) (int, error) {
	n, err := p.Conn.Write(b)
	p.heed(err)
	return n, err
}

// pass implements datagrams.
func (p *hostPort) pass(w io.Writer) error {
	buf, n, err := await(p.raw)
	if buf == nil {
		return err
	}
	defer chunks.Put(buf)
	if err != nil {
		p.heed(err) // and go on: the next datagram may arrive
		return nil
	}
	_, _ = w.Write(buf[:n])
	return nil
}

// heed passes on that nobody listens.
func (p *hostPort) heed(err error) {
	if errors.Is(err, unix.ECONNREFUSED) && p.refused != nil {
		p.refused()
	}
}
