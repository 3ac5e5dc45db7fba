package vnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/waiter"
)

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

	echo := make([]byte, 64)
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
