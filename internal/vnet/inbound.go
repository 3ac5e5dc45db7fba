package vnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// DialContext connects to a port of the box. The network is "tcp" or "udp", with
// a 4 or a 6 at its end to choose the family, which otherwise is IPv4. The policy
// is not asked: it is about what the box does. The connection ends with the
// network at the latest.
func (n *Network) DialContext(ctx context.Context, network string, port uint16) (net.Conn, error) {
	dst := BoxIPv4.Addr()
	switch network {
	case "tcp6", "udp6":
		dst = BoxIPv6.Addr()
	case "tcp", "udp", "tcp4", "udp4":
	default:
		return nil, fmt.Errorf("dial the box: %w", net.UnknownNetworkError(network))
	}
	proto := egress.Proto(network[:3])
	fl, err := n.beginIn(proto, netip.AddrPortFrom(dst, port))
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c, err := n.dialBox(ctx, fl)
	if err != nil {
		n.end(fl)
		return nil, &net.OpError{Op: "dial", Net: network, Addr: net.TCPAddrFromAddrPort(fl.Dst), Err: err}
	}
	return c, nil
}

// beginIn enters a flow to the box.
func (n *Network) beginIn(p egress.Proto, to netip.AddrPort) (*flow, error) {
	v := egress.Verdict{Action: egress.Allow, Rule: egress.BuiltIn}
	fl, ok := n.begin(egress.Flow{Proto: p, Dst: to}, egress.In, v)
	switch {
	case ok:
		return fl, nil
	case n.ctx.Err() != nil:
		return nil, ErrClosed
	}
	return nil, fmt.Errorf("%s to the box: too many connections are open: %w", p, syscall.EMFILE)
}

// dialBox connects to the box. What it returns ends the flow when it is closed.
func (n *Network) dialBox(ctx context.Context, fl *flow) (net.Conn, error) {
	if fl.Proto == egress.UDP {
		p, err := n.dialUDP(fl)
		if err != nil {
			return nil, err
		}
		d := &dialed{Conn: p, fl: fl}
		fl.onReset(func() { d.Close() })
		return d, nil
	}
	c, err := n.dialTCP(ctx, fl)
	if err != nil {
		return nil, err
	}
	d := &dialedTCP{boxConn: c, fl: fl}
	fl.onReset(func() { d.Close() }) // after that of c: whoever forgets to close does not hold Close up
	return d, nil
}

func (n *Network) dialUDP(fl *flow) (*boxPort, error) {
	queue := new(waiter.Queue)
	ep, err := n.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(fl.Dst.Addr()), queue)
	if err == nil {
		err = ep.Connect(fullAddress(fl.Dst))
	}
	if err != nil {
		if ep != nil {
			ep.Close()
		}
		return nil, errnoOf(err)
	}
	return newBoxPort(ep, queue, &fl.traffic), nil
}

func (n *Network) dialTCP(ctx context.Context, fl *flow) (*boxConn, error) {
	queue := new(waiter.Queue)
	ep, err := n.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(fl.Dst.Addr()), queue)
	if err != nil {
		return nil, errnoOf(err)
	}
	size := bufferSize(fl.open)
	ep.SocketOptions().SetReceiveBufferSize(size, true) // it is announced in the handshake
	entry, changed := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	ctx, cancel := context.WithTimeoutCause(ctx, connectTimeout, syscall.ETIMEDOUT)
	defer cancel()
	err = ep.Connect(fullAddress(fl.Dst))
	if _, started := err.(*tcpip.ErrConnectStarted); started {
		select {
		case <-changed:
			err = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			ep.Close()
			return nil, context.Cause(ctx)
		case <-fl.ctx.Done():
			err = &tcpip.ErrAborted{}
		}
	}
	if err != nil {
		ep.Abort()
		ep.Close()
		return nil, errnoOf(err)
	}
	c := newBoxConn(ep, queue, &fl.traffic, size)
	fl.onReset(c.Reset)
	return c, nil
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: addressOf(a.Addr()), Port: a.Port()}
}

// errnoOf turns an error of the stack into the one of the host that callers know.
func errnoOf(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionReset:
		return syscall.ECONNRESET
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrAborted, *tcpip.ErrConnectionAborted:
		return ErrClosed
	}
	return errors.New(err.String())
}

// dialed is a UDP flow to the box that somebody else uses.
type dialed struct {
	net.Conn
	fl   *flow
	once sync.Once
}

func (d *dialed) Close() error {
	err := d.Conn.Close()
	d.once.Do(func() { d.fl.net.end(d.fl) })
	return err
}

// dialedTCP is a connection to the box that somebody else uses.
type dialedTCP struct {
	*boxConn
	fl   *flow
	once sync.Once
}

// Close returns at once, as that of a socket does; the flow ends when the box has
// taken what was sent.
func (d *dialedTCP) Close() error {
	err := d.boxConn.Close()
	d.once.Do(func() {
		go func() { // end tells
			defer d.fl.net.end(d.fl)
			d.linger()
		}()
	})
	return err
}
