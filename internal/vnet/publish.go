package vnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// Port is a port of the box that is reached through one of the host.
type Port struct {
	Proto egress.Proto   // TCP or UDP
	Host  netip.AddrPort // an invalid address is 127.0.0.1; port 0 lets the host choose
	Box   uint16
}

func (p Port) String() string { return fmt.Sprintf("%s:%d/%s", p.Host, p.Box, p.Proto) }

// Publish listens on the host for ports of the box, on all or on none, and
// returns them with the host's addresses filled in. It can be called before the
// box runs: connections wait until Accept.
func (n *Network) Publish(ports []Port) ([]Port, error) {
	var u undo.Stack
	defer u.Run()
	open := make([]published, 0, len(ports))
	for _, p := range ports {
		l, err := listen(p)
		if err != nil {
			return nil, err
		}
		u.Add(func() { l.Close() })
		open = append(open, l)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ErrClosed
	}
	got := make([]Port, 0, len(open))
	for _, l := range open {
		got = append(got, l.port())
		n.published = append(n.published, l)
		if n.accepting {
			n.wg.Go(func() { l.serve(n) }) // Close closes l and waits
		}
	}
	u.Keep()
	return got, nil
}

// Accept starts to serve the published ports.
func (n *Network) Accept() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.accepting || n.closed {
		return
	}
	n.accepting = true
	for _, l := range n.published {
		n.wg.Go(func() { l.serve(n) }) // Close closes l and waits
	}
}

// published is a port of the host that is listened on.
type published interface {
	io.Closer
	port() Port
	serve(n *Network) // until it is closed
}

func listen(p Port) (published, error) {
	if !p.Host.Addr().IsValid() {
		p.Host = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), p.Host.Port())
	}
	network := string(p.Proto)
	if p.Host.Addr().Is4() {
		network += "4" // else 0.0.0.0 would be all addresses of IPv6, too
	}
	var c net.ListenConfig
	ctx := context.Background() // listening does not wait
	switch p.Proto {
	case egress.TCP:
		l, err := c.Listen(ctx, network, p.Host.String())
		if err != nil {
			return nil, listenError(p, err)
		}
		p.Host = l.Addr().(*net.TCPAddr).AddrPort()
		return &tcpPort{l, p}, nil
	case egress.UDP:
		l, err := c.ListenPacket(ctx, network, p.Host.String())
		if err != nil {
			return nil, listenError(p, err)
		}
		p.Host = l.LocalAddr().(*net.UDPAddr).AddrPort()
		return &udpPort{UDPConn: l.(*net.UDPConn), p: p, clients: map[netip.AddrPort]*client{}}, nil
	}
	return nil, fmt.Errorf("publish %s: protocol %q: give tcp or udp", p, p.Proto)
}

func listenError(p Port, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("publish %s: the port is taken on the host; give another one, or 0 for any that is free: %w", p, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("publish %s: this user may not have so low a port; give one from 1024 on: %w", p, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("publish %s: the host does not have this address: %w", p, err)
	}
	return fmt.Errorf("publish %s: %w", p, err)
}

// tcpPort is a published port of TCP.
type tcpPort struct {
	net.Listener
	p Port
}

func (l *tcpPort) port() Port { return l.p }

func (l *tcpPort) serve(n *Network) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Too many open files: connections wait in the kernel until some end.
			if !n.pause() {
				return
			}
			continue
		}
		host, err := newHostConn(c)
		if err != nil {
			c.Close()
			continue
		}
		n.wg.Go(func() { n.serveIn(l.p, host) }) // Close resets the flow and waits
	}
}

// serveIn carries a connection to the box. It owns host. A box that does not
// listen resets it, as if the host did not listen.
func (n *Network) serveIn(p Port, host *hostConn) {
	fl, err := n.beginIn(egress.TCP, netip.AddrPortFrom(boxAddr(p.Host.Addr()), p.Box))
	if err != nil {
		host.Reset()
		return
	}
	defer n.end(fl)
	fl.onReset(host.Reset)
	box, err := n.dialTCP(fl.ctx, fl)
	if err != nil {
		host.Reset()
		return
	}
	relay(box, host)
	box.linger()
}

// boxAddr is the address of the box in the family of a published address: who
// publishes on IPv6 listens on IPv6.
func boxAddr(host netip.Addr) netip.Addr {
	if host.Is6() && !host.Is4In6() && !host.IsUnspecified() {
		return BoxIPv6.Addr()
	}
	return BoxIPv4.Addr()
}

// udpPort is a published port of UDP.
type udpPort struct {
	*net.UDPConn
	p Port

	mu      sync.Mutex
	clients map[netip.AddrPort]*client
}

func (l *udpPort) port() Port { return l.p }

// serve hands datagrams to the box, each client's as a flow of its own.
func (l *udpPort) serve(n *Network) {
	buf := make([]byte, chunk)
	for {
		size, from, err := l.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an answer of ours found nobody
		}
		if c := l.client(n, from); c != nil {
			c.touch()
			_, _ = c.box.Write(buf[:size]) // what the box does not take is lost
		}
	}
}

// client returns the flow of a client, a new one if there is none; nil if there
// can be none.
func (l *udpPort) client(n *Network, from netip.AddrPort) *client {
	l.mu.Lock()
	c := l.clients[from]
	l.mu.Unlock()
	if c != nil {
		return c
	}
	fl, err := n.beginIn(egress.UDP, netip.AddrPortFrom(boxAddr(l.p.Host.Addr()), l.p.Box))
	if err != nil {
		return nil
	}
	box, err := n.dialUDP(fl)
	if err != nil {
		n.end(fl)
		return nil
	}
	c = &client{box: box}
	c.watcher = watch(fl, udpIdle, func() { box.Close() })
	l.mu.Lock()
	l.clients[from] = c
	l.mu.Unlock()
	go func() { // end tells
		defer n.end(fl)
		defer c.stop()
		c.carry(answers{l, from}, box)
		l.mu.Lock()
		delete(l.clients, from)
		l.mu.Unlock()
	}()
	return c
}

// client is one who sends to a published port.
type client struct {
	*watcher
	box *boxPort
}

// answers is the way back to a client.
type answers struct {
	port *udpPort
	to   netip.AddrPort
}

func (a answers) Write(b []byte) (int, error) { return a.port.WriteToUDPAddrPort(b, a.to) }
