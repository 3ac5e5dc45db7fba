package vnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/boxlite-go/boxlite/egress"
)

// rawBox is the end of a link in the hands of one who writes frames by hand.
type rawBox struct {
	t    testing.TB
	net  *Network
	file *os.File
}

func newRawBox(t testing.TB, c Config) *rawBox {
	t.Helper()
	before := resources()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		n.Close()
		before.compare(t)
	})
	return &rawBox{t, n, n.Link()}
}

func (w *rawBox) send(frame []byte) {
	w.t.Helper()
	w.file.SetWriteDeadline(time.Now().Add(20 * time.Second))
	if _, err := w.file.Write(frame); err != nil {
		w.t.Fatalf("frame of %d bytes: %v", len(frame), err)
	}
}

// receive returns the next frame to the box that is wanted.
func (w *rawBox) receive(wanted func([]byte) bool) []byte {
	w.t.Helper()
	w.file.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, maxFrame)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			w.t.Fatalf("frame to the box: %v", err)
		}
		if wanted(buf[:n]) {
			return bytes.Clone(buf[:n])
		}
	}
}

// alive sees that the network still serves the box, by pinging the gateway.
func (w *rawBox) alive() {
	w.t.Helper()
	w.send(echoOf(BoxIPv4.Addr(), Gateway4))
	w.receive(func(b []byte) bool {
		return len(b) > ethernet+header.IPv4MinimumSize && b[ethernet+header.IPv4MinimumSize] == uint8(header.ICMPv4EchoReply)
	})
}

// fromBox wraps a packet into a frame of the box.
func fromBox(p tcpip.NetworkProtocolNumber, packet []byte) []byte {
	frame := make([]byte, ethernet, ethernet+len(packet))
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(BoxMAC), DstAddr: tcpip.LinkAddress(gatewayMAC), Type: p,
	})
	return append(frame, packet...)
}

func ip4(src, dst netip.Addr, proto tcpip.TransportProtocolNumber, payload []byte) []byte {
	packet := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
	h := header.IPv4(packet)
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(payload)), TTL: 64, Protocol: uint8(proto),
		SrcAddr: addressOf(src), DstAddr: addressOf(dst),
	})
	h.SetChecksum(^h.CalculateChecksum())
	return fromBox(header.IPv4ProtocolNumber, append(packet, payload...))
}

func ip6(src, dst netip.Addr, proto tcpip.TransportProtocolNumber, hops uint8, payload []byte) []byte {
	packet := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload))
	header.IPv6(packet).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: proto, HopLimit: hops,
		SrcAddr: addressOf(src), DstAddr: addressOf(dst),
	})
	return fromBox(header.IPv6ProtocolNumber, append(packet, payload...))
}

// echoOf is a ping.
func echoOf(src, dst netip.Addr) []byte {
	echo := make([]byte, 16)
	echo[0] = uint8(header.ICMPv4Echo)
	header.ICMPv4(echo).SetChecksum(header.ICMPv4Checksum(echo, 0))
	return ip4(src, dst, header.ICMPv4ProtocolNumber, echo)
}

// syn is the first packet of a connection.
func syn(src, dst netip.AddrPort) []byte {
	seg := make([]byte, header.TCPMinimumSize)
	h := header.TCP(seg)
	h.Encode(&header.TCPFields{
		SrcPort: src.Port(), DstPort: dst.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addressOf(src.Addr()), addressOf(dst.Addr()), uint16(len(seg)))
	h.SetChecksum(^checksum.Checksum(seg, sum))
	if src.Addr().Is4() {
		return ip4(src.Addr(), dst.Addr(), header.TCPProtocolNumber, seg)
	}
	return ip6(src.Addr(), dst.Addr(), header.TCPProtocolNumber, 64, seg)
}

func udpOf(src, dst netip.AddrPort, payload string) []byte {
	d := make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(payload))
	header.UDP(d).Encode(&header.UDPFields{
		SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(header.UDPMinimumSize + len(payload)),
	})
	return ip4(src.Addr(), dst.Addr(), header.UDPProtocolNumber, append(d, payload...))
}

// arpOf is a packet of ARP.
func arpOf(op header.ARPOp, sender net.HardwareAddr, from, about netip.Addr) []byte {
	packet := make([]byte, header.ARPSize)
	h := header.ARP(packet)
	h.SetIPv4OverEthernet()
	h.SetOp(op)
	copy(h.HardwareAddressSender(), sender)
	copy(h.ProtocolAddressSender(), from.AsSlice())
	copy(h.ProtocolAddressTarget(), about.AsSlice())
	return fromBox(header.ARPProtocolNumber, packet)
}

// neighbor is a packet of neighbour discovery with a link-layer address in it.
func neighbor(kind header.ICMPv6Type, src, dst, about netip.Addr) []byte {
	msg := make([]byte, header.ICMPv6NeighborAdvertMinimumSize+8)
	msg[0] = uint8(kind)
	msg[4] = 0x60 // solicited, override
	copy(msg[8:], about.AsSlice())
	msg[24], msg[25] = 1, 1
	if kind == header.ICMPv6NeighborAdvert {
		msg[24] = 2
	}
	copy(msg[26:], []byte{2, 6, 6, 6, 6, 6})
	header.ICMPv6(msg).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: msg, Src: addressOf(src), Dst: addressOf(dst),
	}))
	return ip6(src, dst, header.ICMPv6ProtocolNumber, 255, msg)
}

// TestNeighborAnswers promises an answer for every address of the link but the
// box's own, so that to an address that nobody has is not waited for.
func TestNeighborAnswers(t *testing.T) {
	w := newRawBox(t, Config{})
	for _, a := range []netip.Addr{Gateway4, Alias4, netip.MustParseAddr("192.168.127.77")} {
		w.send(arpOf(header.ARPRequest, BoxMAC, BoxIPv4.Addr(), a))
		got := header.ARP(w.receive(func(b []byte) bool { return header.Ethernet(b).Type() == header.ARPProtocolNumber })[ethernet:])
		if !bytes.Equal(got.HardwareAddressSender(), gatewayMAC) || !bytes.Equal(got.ProtocolAddressSender(), a.AsSlice()) ||
			got.Op() != header.ARPReply || !bytes.Equal(got.ProtocolAddressTarget(), BoxIPv4.Addr().AsSlice()) {
			t.Errorf("who has %s: got % x", a, []byte(got))
		}
	}
	for _, a := range []netip.Addr{Gateway6, Alias6, netip.MustParseAddr("fd42:b0c5:17e::77")} {
		w.send(neighbor(header.ICMPv6NeighborSolicit, BoxIPv6.Addr(), netip.MustParseAddr("ff02::1:ff00:1"), a))
		got := w.receive(func(b []byte) bool { return header.Ethernet(b).Type() == header.IPv6ProtocolNumber })
		h := header.IPv6(got[ethernet:])
		msg := header.ICMPv6(h.Payload())
		if msg.Type() != header.ICMPv6NeighborAdvert || h.HopLimit() != 255 || target6(got) != a || !bytes.Equal(msg[26:], gatewayMAC) {
			t.Errorf("who has %s: got % x", a, got)
		}
		if sum := header.ICMPv6Checksum(header.ICMPv6ChecksumParams{Header: msg, Src: h.SourceAddress(), Dst: h.DestinationAddress()}); sum != msg.Checksum() {
			t.Errorf("sum of the answer: got %x, want %x", msg.Checksum(), sum)
		}
	}
	// The box asks whether its own addresses are taken: they are not.
	w.send(arpOf(header.ARPRequest, BoxMAC, netip.IPv4Unspecified(), BoxIPv4.Addr()))
	w.send(neighbor(header.ICMPv6NeighborSolicit, netip.IPv6Unspecified(), netip.MustParseAddr("ff02::1:ff00:2"), BoxIPv6.Addr()))
	w.send(echoOf(BoxIPv4.Addr(), Gateway4))
	if got := w.receive(func([]byte) bool { return true }); header.Ethernet(got).Type() != header.IPv4ProtocolNumber {
		t.Errorf("somebody has the address of the box: % x", got)
	}
}

// TestNeighborSpoofing promises that what the box says about addresses changes
// nothing: frames go to the one who is at the other end, and to its address.
func TestNeighborSpoofing(t *testing.T) {
	w := newRawBox(t, Config{})
	evil := net.HardwareAddr{2, 6, 6, 6, 6, 6}
	for _, a := range []netip.Addr{BoxIPv4.Addr(), Gateway4, Alias4, netip.MustParseAddr("203.0.113.1")} {
		w.send(arpOf(header.ARPReply, evil, a, a))
		w.send(arpOf(header.ARPRequest, evil, a, a))
	}
	for _, a := range []netip.Addr{BoxIPv6.Addr(), Gateway6, Alias6, netip.MustParseAddr("2001:db8::1")} {
		for _, k := range []header.ICMPv6Type{header.ICMPv6NeighborAdvert, header.ICMPv6RouterAdvert, header.ICMPv6RedirectMsg, header.ICMPv6NeighborSolicit} {
			w.send(neighbor(k, BoxIPv6.Addr(), Gateway6, a))
			w.send(neighbor(k, a, netip.MustParseAddr("ff02::1"), a))
		}
	}
	w.send(echoOf(BoxIPv4.Addr(), Gateway4))
	got := w.receive(func(b []byte) bool { return header.Ethernet(b).Type() == header.IPv4ProtocolNumber })
	if to := header.Ethernet(got).DestinationAddress(); to != tcpip.LinkAddress(BoxMAC) {
		t.Errorf("frames go to %s, want %s", to, BoxMAC)
	}
	if s := w.net.stack.Stats().ARP; s.PacketsReceived.Value() != 0 {
		t.Errorf("the stack heard %d packets of ARP", s.PacketsReceived.Value())
	}
}

// TestSourceSpoofing promises that packets from an address that is not the box's
// are dropped and recorded.
func TestSourceSpoofing(t *testing.T) {
	log := newEventLog()
	heard, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	to := alias(heard.LocalAddr())
	w := newRawBox(t, Config{Policy: hostAllowed(), Record: log.record})
	for _, src := range []string{"127.0.0.1", "10.0.0.1", "192.168.127.1", "192.168.127.3", "0.0.0.0", "255.255.255.255", "8.8.8.8"} {
		from := netip.AddrPortFrom(netip.MustParseAddr(src), 1234)
		w.send(udpOf(from, to, "spoofed"))
		w.send(syn(from, to))
		w.send(echoOf(from.Addr(), to.Addr()))
	}
	w.send(syn(netip.MustParseAddrPort("[::1]:1"), netip.MustParseAddrPort("[fd42:b0c5:17e::fe]:80")))
	w.send(udpOf(netip.AddrPortFrom(BoxIPv4.Addr(), 99), to, "honest"))
	buf := make([]byte, 100)
	heard.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, _, err := heard.ReadFrom(buf); err != nil || string(buf[:n]) != "honest" {
		t.Errorf("the host heard %q, %v; want the honest datagram first", buf[:n], err)
	}
	log.await(t, "a packet with a wrong source", func(e egress.Event) bool {
		return e.Reason == egress.ReasonSource && e.Addr == to.Addr().String() && e.Action == egress.Deny
	})
	if n := w.net.Stats().Connections; n != 1 {
		t.Errorf("%d flows, want the honest one", n)
	}
	if n := w.net.Stats().Refused; n != 22 {
		t.Errorf("%d refusals, want 22: every spoofed packet is counted", n)
	}
}

// TestSYNFlood promises that connects that are never completed are bounded, on the
// link and on the host, and that the box's other traffic goes on.
func TestSYNFlood(t *testing.T) {
	to := alias(serve(t, "127.0.0.1:0", repeat))
	w := newRawBox(t, Config{Policy: hostAllowed()})
	before := resources()
	for i := range 20_000 {
		w.send(syn(netip.AddrPortFrom(BoxIPv4.Addr(), uint16(1024+i)), to))
		w.drain()
	}
	w.alive()
	after := resources()
	// A connect in flight has a socket on either side of loopback, this test's
	// server included, and some goroutines.
	if n := after.fds - before.fds; n > 2*maxConnects {
		t.Errorf("20000 connects that are never completed: %d file descriptors, want at most %d", n, 2*maxConnects)
	}
	if n := after.goroutines - before.goroutines; n > 4*maxConnects {
		t.Errorf("20000 connects that are never completed: %d goroutines, want at most %d", n, 4*maxConnects)
	}
	if n := w.net.Stats().Open; n > maxConnects {
		t.Errorf("%d flows, want at most %d", n, maxConnects)
	}
}

// drain takes the frames that wait for the box.
func (w *rawBox) drain() {
	buf := make([]byte, maxFrame)
	raw, err := w.file.SyscallConn()
	if err != nil {
		w.t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for err := error(nil); err == nil; {
			_, err = unix.Read(int(fd), buf)
		}
	})
}

// TestCloseDuringHandshakes promises that Close does not wait for a box that
// begins connections and never completes them, nor for one that sends on.
func TestCloseDuringHandshakes(t *testing.T) {
	to := alias(serve(t, "127.0.0.1:0", repeat))
	for i := range 50 {
		n, err := New(Config{Policy: hostAllowed()})
		if err != nil {
			t.Fatal(err)
		}
		w := &rawBox{t, n, n.Link()}
		for j := range 8 {
			w.send(syn(netip.AddrPortFrom(BoxIPv4.Addr(), uint16(1000+i+j)), to))
			w.send(syn(netip.AddrPortFrom(BoxIPv4.Addr(), uint16(1000+i+j)), netip.AddrPortFrom(Gateway4, dnsPort)))
			w.send(echoOf(BoxIPv4.Addr(), Gateway4))
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBoxThatDoesNotRead promises that one who takes no frames stops itself only.
func TestBoxThatDoesNotRead(t *testing.T) {
	w := newRawBox(t, Config{})
	for range 5000 {
		w.send(echoOf(BoxIPv4.Addr(), Gateway4))
	}
	w.drain()
	w.alive()
}

// FuzzFrame writes any bytes as a frame: the stack must survive them and stay
// bounded.
func FuzzFrame(f *testing.F) {
	box, gw := BoxIPv4.Addr(), netip.AddrPortFrom(Gateway4, 53)
	for _, seed := range [][]byte{
		echoOf(box, Gateway4),
		echoOf(box, netip.MustParseAddr("8.8.8.8")),
		syn(netip.AddrPortFrom(box, 1), netip.MustParseAddrPort("10.0.0.1:80")),
		syn(netip.AddrPortFrom(box, 1), gw),
		udpOf(netip.AddrPortFrom(box, 1), gw, "\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"),
		arpOf(header.ARPRequest, BoxMAC, box, Gateway4),
		neighbor(header.ICMPv6NeighborSolicit, BoxIPv6.Addr(), Gateway6, Gateway6),
		neighbor(header.ICMPv6NeighborAdvert, BoxIPv6.Addr(), Gateway6, Gateway6),
		ip6(BoxIPv6.Addr(), Gateway6, 0, 64, []byte{58, 0, 5, 2, 0, 0, 0, 0, 143, 0, 0, 0}),
		ip6(BoxIPv6.Addr(), Gateway6, 44, 64, []byte{17, 0, 0, 1, 1, 2, 3, 4}),
		fromBox(header.IPv4ProtocolNumber, []byte{0x4f, 0}),
	} {
		f.Add(seed)
	}
	n, err := New(Config{Policy: egress.Policy{Mode: egress.AllowList}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close() })
	w := &rawBox{f, n, n.Link()}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > maxFrame {
			return
		}
		w := &rawBox{t, w.net, w.file}
		w.send(frame)
		w.drain()
		w.send(echoOf(box, Gateway4))
		w.receive(func(b []byte) bool { return binary.BigEndian.Uint16(b[12:]) == uint16(header.IPv4ProtocolNumber) })
		if s := n.Stats(); s.Open > maxConnects {
			t.Errorf("%d flows are open", s.Open)
		}
	})
}

// TestFramesOfAllLengths promises that a frame that is cut off anywhere, or too
// long, does no harm.
func TestFramesOfAllLengths(t *testing.T) {
	w := newRawBox(t, Config{})
	whole := [][]byte{
		echoOf(BoxIPv4.Addr(), Gateway4),
		syn(netip.AddrPortFrom(BoxIPv4.Addr(), 1), netip.MustParseAddrPort("10.0.0.1:80")),
		syn(netip.AddrPortFrom(BoxIPv6.Addr(), 1), netip.MustParseAddrPort("[fd00::1]:80")),
		arpOf(header.ARPRequest, BoxMAC, BoxIPv4.Addr(), Gateway4),
		neighbor(header.ICMPv6NeighborSolicit, BoxIPv6.Addr(), Gateway6, Gateway6),
	}
	for _, frame := range whole {
		for n := 0; n <= len(frame); n++ {
			w.send(frame[:n])
			w.drain()
		}
	}
	if _, err := w.file.Write(make([]byte, maxFrame+5000)); err != nil && !errors.Is(err, unix.EMSGSIZE) {
		t.Fatal(err)
	}
	w.drain()
	w.alive()
}
