package vnet

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/boxlite-go/boxlite/egress"
)

// Why something cannot be reached, as ICMP says it.
type why uint8

const (
	portUnreachable why = iota
	adminProhibited
)

// echoHeader is the size in bytes of an echo's header, the same in both families.
const echoHeader = header.ICMPv4MinimumSize

// handleICMP takes a ping of the box. It leaves to the stack what is not one, or
// is for the gateway, which the stack is. It is called by the reader of the link.
func (n *Network) handleICMP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	dst := addrPortOf(id.LocalAddress, 0)
	view := stack.PayloadSince(pkt.TransportHeader())
	echo := view.ToSlice()
	view.Release()
	if len(echo) < echoHeader || dst.Addr() == Gateway4 || dst.Addr() == Gateway6 {
		return false
	}
	if t := echo[0]; (dst.Addr().Is4() && t != uint8(header.ICMPv4Echo)) || (dst.Addr().Is6() && t != uint8(header.ICMPv6EchoRequest)) {
		return false
	}
	from := addrPortOf(id.RemoteAddress, 0)
	k := pingKey{dst.Addr(), [2]byte(echo[4:6])}
	if p := n.pinger(k, from); p == nil || !p.send(echo) {
		n.link.send([][]byte{unreachable(netip.AddrPortFrom(dst.Addr(), 0), from, adminProhibited)})
	}
	return true
}

// pingKey is what answers are told apart by: whom, and the identifier that the
// box chose for the program that asks.
type pingKey struct {
	dst   netip.Addr
	ident [2]byte
}

// pinger sends the pings of one program to one address, and hands the answers back.
type pinger struct {
	pingKey
	conn  net.Conn
	count *traffic
	raw   bool    // the socket gets all that comes, with its IP header in IPv4
	own   [2]byte // the identifier on the host's side, on a raw socket
}

// pinger returns the one for a key, or nil if it is not allowed or not possible.
func (n *Network) pinger(k pingKey, from netip.AddrPort) *pinger {
	n.pings.mu.Lock()
	p := n.pings.live[k]
	n.pings.mu.Unlock()
	if p != nil {
		return p
	}
	f := n.describe(egress.ICMP, netip.AddrPortFrom(k.dst, 0))
	v, ok := n.decide(f)
	if !ok {
		return nil
	}
	p, err := newPinger(k)
	if err != nil {
		n.note(flowEvent(f, egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonPing}))
		return nil
	}
	fl, ok := n.begin(f, egress.Out, v)
	if !ok {
		p.conn.Close()
		return nil
	}
	p.count = &fl.traffic
	n.pings.mu.Lock()
	n.pings.live[k] = p
	n.pings.mu.Unlock()
	go func() { // end tells
		defer n.end(fl)
		n.serve(fl, p, from)
	}()
	return p
}

// pings has the live pingers.
type pings struct {
	mu   sync.Mutex
	live map[pingKey]*pinger
}

// serve hands answers back until there are none for a while.
func (n *Network) serve(fl *flow, p *pinger, from netip.AddrPort) {
	fl.onReset(func() { p.conn.Close() })
	defer func() {
		n.pings.mu.Lock()
		delete(n.pings.live, p.pingKey)
		n.pings.mu.Unlock()
		p.conn.Close()
	}()
	buf := make([]byte, chunk)
	for {
		size, err := p.conn.Read(buf)
		if err != nil {
			return
		}
		if reply := p.reply(buf[:size]); reply != nil {
			fl.addReceived(len(reply))
			n.link.send([][]byte{echoFrame(p.dst, from.Addr(), reply)})
		}
	}
}

// newPinger opens a socket for pings: the kind that needs no privilege if the
// host lets us (net.ipv4.ping_group_range), else the one that needs it.
func newPinger(k pingKey) (*pinger, error) {
	family, proto := unix.AF_INET, unix.IPPROTO_ICMP
	to := target(netip.AddrPortFrom(k.dst, 0)).Addr()
	var sa unix.Sockaddr
	if to.Is6() {
		family, proto = unix.AF_INET6, unix.IPPROTO_ICMPV6
		sa = &unix.SockaddrInet6{Addr: to.As16()}
	} else {
		sa = &unix.SockaddrInet4{Addr: to.As4()}
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	p := &pinger{pingKey: k, own: k.ident}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|flags, proto)
	if errors.Is(err, os.ErrPermission) {
		p.raw = true
		fd, err = unix.Socket(family, unix.SOCK_RAW|flags, proto)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "ping")
	defer file.Close() // FileConn has a duplicate
	if err = unix.Connect(fd, sa); err == nil {
		p.conn, err = net.FileConn(file)
	}
	if err != nil {
		return nil, err
	}
	p.conn.SetReadDeadline(time.Now().Add(pingIdle))
	return p, nil
}

// send sends an echo request of the box, and tells whether the host could.
func (p *pinger) send(echo []byte) bool {
	p.conn.SetReadDeadline(time.Now().Add(pingIdle))
	out := append([]byte(nil), echo...)
	out[2], out[3] = 0, 0
	if p.dst.Is4() {
		header.ICMPv4(out).SetChecksum(header.ICMPv4Checksum(out, 0))
	} // for IPv6 the kernel makes it
	n, err := p.conn.Write(out)
	p.count.addSent(n)
	return err == nil
}

// reply returns the echo reply in what a socket received, with the identifier
// that the box knows; nil if it is none of ours.
func (p *pinger) reply(b []byte) []byte {
	if p.raw && p.dst.Is4() {
		h := header.IPv4(b)
		if !h.IsValid(len(b)) {
			return nil
		}
		b = b[h.HeaderLength():]
	}
	want := uint8(header.ICMPv4EchoReply)
	if p.dst.Is6() {
		want = uint8(header.ICMPv6EchoReply)
	}
	if len(b) < echoHeader || b[0] != want || (p.raw && [2]byte(b[4:6]) != p.own) {
		return nil
	}
	copy(b[4:6], p.ident[:])
	return b
}

// echoFrame wraps an echo reply.
func echoFrame(from, to netip.Addr, echo []byte) []byte {
	echo[2], echo[3] = 0, 0
	if from.Is4() {
		return ipv4Frame(addressOf(from), addressOf(to), echo)
	}
	return ipv6Frame(addressOf(from), addressOf(to), echo)
}

// unreachable makes the ICMP error for a packet of the box to dst: a datagram, or
// if the ports are 0 a ping. Of the packet it quotes what tells whose it was.
func unreachable(dst, from netip.AddrPort, w why) []byte {
	const quoted = 8 // bytes of the packet's payload, as RFC 792 wants
	const head = 8   // of the error itself
	v4 := dst.Addr().Is4()
	size := header.IPv6MinimumSize
	if v4 {
		size = header.IPv4MinimumSize
	}
	msg := make([]byte, head+size+quoted)
	inner := msg[head:]
	binary.BigEndian.PutUint16(inner[size:], from.Port())
	binary.BigEndian.PutUint16(inner[size+2:], dst.Port())
	binary.BigEndian.PutUint16(inner[size+4:], header.UDPMinimumSize)
	if v4 {
		quote4(inner, dst, from)
		msg[0] = uint8(header.ICMPv4DstUnreachable)
		msg[1] = [...]uint8{uint8(header.ICMPv4PortUnreachable), uint8(header.ICMPv4AdminProhibited)}[w]
		return ipv4Frame(addressOf(dst.Addr()), addressOf(from.Addr()), msg)
	}
	quote6(inner, dst, from)
	msg[0] = uint8(header.ICMPv6DstUnreachable)
	msg[1] = [...]uint8{uint8(header.ICMPv6PortUnreachable), uint8(header.ICMPv6Prohibited)}[w]
	return ipv6Frame(addressOf(dst.Addr()), addressOf(from.Addr()), msg)
}

func quote4(inner []byte, dst, from netip.AddrPort) {
	proto := header.UDPProtocolNumber
	if dst.Port() == 0 {
		proto = header.ICMPv4ProtocolNumber
		inner[header.IPv4MinimumSize] = uint8(header.ICMPv4Echo)
	}
	h := header.IPv4(inner)
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(inner)), TTL: 64, Protocol: uint8(proto),
		SrcAddr: addressOf(from.Addr()), DstAddr: addressOf(dst.Addr()),
	})
	h.SetChecksum(^h.CalculateChecksum())
}

func quote6(inner []byte, dst, from netip.AddrPort) {
	proto := header.UDPProtocolNumber
	if dst.Port() == 0 {
		proto = header.ICMPv6ProtocolNumber
		inner[header.IPv6MinimumSize] = uint8(header.ICMPv6EchoRequest)
	}
	header.IPv6(inner).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(inner) - header.IPv6MinimumSize), TransportProtocol: proto, HopLimit: 64,
		SrcAddr: addressOf(from.Addr()), DstAddr: addressOf(dst.Addr()),
	})
}
