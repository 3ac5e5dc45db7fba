package vnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// pingSize is the size of a ping in bytes.
const pingSize = 64

// ping sends one echo request from the box, and tells what came of it: reply,
// unreachable, silence, or what was wrong.
func (b *testBox) ping(to netip.Addr) string {
	b.t.Helper()
	proto, request := icmp.ProtocolNumber4, uint8(header.ICMPv4Echo)
	if to.Is6() {
		proto, request = icmp.ProtocolNumber6, uint8(header.ICMPv6EchoRequest)
	}
	queue := new(waiter.Queue)
	ep, terr := b.stack.NewRawEndpoint(proto, protocolOf(to), queue, true)
	if terr != nil {
		b.t.Fatal(terr)
	}
	defer ep.Close()
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)

	echo := make([]byte, pingSize)
	echo[0] = request
	binary.BigEndian.PutUint16(echo[4:], 0x1234)
	binary.BigEndian.PutUint16(echo[6:], 1)
	copy(echo[8:], "boxlite")
	if to.Is4() {
		header.ICMPv4(echo).SetChecksum(header.ICMPv4Checksum(echo, 0))
	} else {
		header.ICMPv6(echo).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
			Header: echo, Src: addressOf(BoxIPv6.Addr()), Dst: addressOf(to),
		}))
	}
	full := tcpip.FullAddress{NIC: nic, Addr: addressOf(to)}
	if _, err := ep.Write(bytes.NewReader(echo), tcpip.WriteOptions{To: &full}); err != nil {
		return err.String()
	}
	for deadline := time.After(20 * time.Second); ; {
		var buf bytes.Buffer
		if _, err := ep.Read(&buf, tcpip.ReadOptions{}); err == nil {
			if what := b.pingAnswer(buf.Bytes(), to, echo); what != "" {
				return what
			}
			continue
		}
		select {
		case <-ready:
		case <-deadline:
			return "silence"
		}
	}
}

// pingAnswer judges what a raw socket received; empty is something else.
func (b *testBox) pingAnswer(p []byte, to netip.Addr, echo []byte) string {
	reply, gone := uint8(header.ICMPv6EchoReply), uint8(header.ICMPv6DstUnreachable)
	if to.Is4() {
		reply, gone = uint8(header.ICMPv4EchoReply), uint8(header.ICMPv4DstUnreachable)
		p = p[header.IPv4(p).HeaderLength():]
	}
	switch {
	case p[0] == gone:
		return "unreachable"
	case p[0] != reply:
		return ""
	case !bytes.Equal(p[4:], echo[4:]):
		return "a reply to something else"
	}
	return "reply"
}

// TestPing promises an answer where the policy allows one, from the gateway
// always, and a refusal at once elsewhere.
func TestPing(t *testing.T) {
	log := newEventLog()
	b := newBox(t, Config{Policy: hostAllowed(), Record: log.record})
	for _, tt := range []struct {
		to, want string
	}{
		{"192.168.127.1", "reply"},
		{"fd42:b0c5:17e::1", "reply"},
		{"192.168.127.254", "reply"},
		{"fd42:b0c5:17e::fe", "reply"},
		{"10.1.2.3", "unreachable"},
		{"fd00::1", "unreachable"},
	} {
		if got := b.ping(netip.MustParseAddr(tt.to)); got != tt.want {
			t.Errorf("ping %s: got %s, want %s", tt.to, got, tt.want)
		}
	}
	log.await(t, "the refusal of a ping", func(e egress.Event) bool {
		return e.Addr == "10.1.2.3" && e.Proto == egress.ICMP && e.Reason == egress.ReasonPrivate
	})
	for _, fl := range b.net.all() { // they end later
		fl.reset(errRefused)
	}
	e := log.await(t, "the end of a ping", func(e egress.Event) bool { return e.Proto == egress.ICMP && e.Closed })
	if e.Sent != pingSize || e.Received != pingSize {
		t.Errorf("end of a ping: got %+v, want %d bytes each way", e, pingSize)
	}
}

// TestPingTheHostCannot promises that it is refused, and recorded as refused with
// the reason, where the host gives no socket for it: here, for a broadcast.
func TestPingTheHostCannot(t *testing.T) {
	log := newEventLog()
	w := newRawBox(t, Config{Policy: policy("", "icmp:255.255.255.255"), Record: log.record})
	w.send(echoOf(BoxIPv4.Addr(), netip.MustParseAddr("255.255.255.255")))
	w.receive(func(b []byte) bool { return b[ethernet+header.IPv4MinimumSize] == uint8(header.ICMPv4DstUnreachable) })
	e := log.await(t, "the refusal", func(e egress.Event) bool { return e.Action == egress.Deny })
	if e.Reason != egress.ReasonPing || e.Reason.Fix() == "" || len(log.all()) != 1 {
		t.Errorf("got %+v, want the refusal alone, with its reason and what can be done", log.all())
	}
}
