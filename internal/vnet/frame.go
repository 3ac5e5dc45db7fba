package vnet

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// fate is what becomes of a frame of the box.
type fate uint8

const (
	frameDropped fate = iota // nothing of ours
	framePacket              // for the stack
	frameAsks                // for a neighbour's hardware address: see answerNeighbor
	frameSpoofed             // a packet from an address that is not the box's
)

// The headers that are looked at.
const (
	ethernet = header.EthernetMinimumSize
	ipv6Hop  = 255 // the hop limit of neighbour discovery: it was not forwarded
	arpSize  = ethernet + header.ARPSize
	nsSize   = ethernet + header.IPv6MinimumSize + header.ICMPv6NeighborSolicitMinimumSize
)

// classify judges a frame by its headers alone. What the box says about who has
// which address changes nothing with us, so neighbours cannot be spoofed: of ARP
// and neighbour discovery only questions are heard, and the answer is fixed.
func classify(frame []byte) fate {
	if len(frame) < ethernet {
		return frameDropped
	}
	packet := frame[ethernet:]
	switch header.Ethernet(frame).Type() {
	case header.ARPProtocolNumber:
		if h := header.ARP(packet); h.IsValid() && h.Op() == header.ARPRequest && ours(target4(h)) {
			return frameAsks
		}
		return frameDropped
	case header.IPv4ProtocolNumber:
		return classify4(packet)
	case header.IPv6ProtocolNumber:
		return classify6(frame, packet)
	}
	return frameDropped
}

func classify4(packet []byte) fate {
	if len(packet) < header.IPv4MinimumSize {
		return frameDropped
	}
	if source, ok := netip.AddrFromSlice(header.IPv4(packet).SourceAddressSlice()); !ok || source != BoxIPv4.Addr() {
		return frameSpoofed
	}
	return framePacket
}

func classify6(frame, packet []byte) fate {
	if len(packet) < header.IPv6MinimumSize {
		return frameDropped
	}
	h := header.IPv6(packet)
	if h.NextHeader() == uint8(header.ICMPv6ProtocolNumber) && len(frame) > ethernet+header.IPv6MinimumSize {
		switch header.ICMPv6(h[header.IPv6MinimumSize:]).Type() {
		case header.ICMPv6NeighborSolicit:
			if len(frame) >= nsSize && h.HopLimit() == ipv6Hop && ours(target6(frame)) {
				return frameAsks
			}
			return frameDropped
		case header.ICMPv6NeighborAdvert, header.ICMPv6RouterSolicit, header.ICMPv6RouterAdvert, header.ICMPv6RedirectMsg:
			return frameDropped
		}
	}
	source, _ := netip.AddrFromSlice(h.SourceAddressSlice())
	switch {
	case source == BoxIPv6.Addr():
		return framePacket
	case source.IsLinkLocalUnicast(), source.IsUnspecified():
		return frameDropped // a card that comes up: listener reports and the like
	}
	return frameSpoofed
}

// ours tells whether we answer for an address: for all beside the box's own, so
// that a packet to one that nobody has is refused at once, not asked about.
func ours(a netip.Addr) bool {
	return (BoxIPv4.Contains(a) && a != BoxIPv4.Addr()) || (BoxIPv6.Contains(a) && a != BoxIPv6.Addr())
}

// target4 is the address that an ARP request is about.
func target4(h header.ARP) netip.Addr {
	return netip.AddrFrom4([4]byte(h.ProtocolAddressTarget()))
}

// target6 is the address that a neighbour solicitation is about.
func target6(frame []byte) netip.Addr {
	const at = ethernet + header.IPv6MinimumSize + header.ICMPv6HeaderSize + 4 // after 4 reserved bytes
	return netip.AddrFrom16([16]byte(frame[at : at+16]))
}

// answerNeighbor makes the answer to a frame that asks: that it is us.
func answerNeighbor(frame []byte) []byte {
	if header.Ethernet(frame).Type() == header.ARPProtocolNumber {
		return answerARP(frame)
	}
	return answerSolicit(frame)
}

func answerARP(frame []byte) []byte {
	asked := header.ARP(frame[ethernet:])
	out := newFrame(arpSize, header.ARPProtocolNumber)
	h := header.ARP(out[ethernet:])
	h.SetIPv4OverEthernet()
	h.SetOp(header.ARPReply)
	copy(h.HardwareAddressSender(), gatewayMAC)
	copy(h.ProtocolAddressSender(), asked.ProtocolAddressTarget())
	copy(h.HardwareAddressTarget(), BoxMAC)
	copy(h.ProtocolAddressTarget(), asked.ProtocolAddressSender())
	return out
}

// answerSolicit makes a neighbour advertisement. One who asks for us before it
// has an address, to see whether it is taken, is told at the address of all.
func answerSolicit(frame []byte) []byte {
	const icmp = header.ICMPv6NeighborAdvertMinimumSize + 8 // with one option, a hardware address
	const flagRouter, flagSolicited, flagOverride = 0x80, 0x40, 0x20
	to, flags := header.IPv6(frame[ethernet:]).SourceAddress(), byte(flagRouter|flagSolicited|flagOverride)
	if to == header.IPv6Any {
		to, flags = header.IPv6AllNodesMulticastAddress, flagRouter|flagOverride
	}
	target := target6(frame).As16()
	body := make([]byte, icmp)
	h := header.ICMPv6(body)
	h.SetType(header.ICMPv6NeighborAdvert)
	body[4] = flags
	copy(body[8:], target[:])
	body[24], body[25] = 2, 1 // target link-layer address, in units of 8 bytes
	copy(body[26:], gatewayMAC)
	return ipv6Frame(tcpip.AddrFrom16(target), to, body)
}

// newFrame returns a frame to the box of n bytes with the Ethernet header filled in.
func newFrame(n int, p tcpip.NetworkProtocolNumber) []byte {
	out := make([]byte, n)
	header.Ethernet(out).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(gatewayMAC), DstAddr: tcpip.LinkAddress(BoxMAC), Type: p,
	})
	return out
}

// ipv6Frame wraps an ICMPv6 message whose sum is not yet made.
func ipv6Frame(from, to tcpip.Address, icmp []byte) []byte {
	header.ICMPv6(icmp).SetChecksum(header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: icmp, Src: from, Dst: to,
	}))
	out := newFrame(ethernet+header.IPv6MinimumSize, header.IPv6ProtocolNumber)
	header.IPv6(out[ethernet:]).Encode(&header.IPv6Fields{
		PayloadLength:     uint16(len(icmp)),
		TransportProtocol: header.ICMPv6ProtocolNumber,
		HopLimit:          ipv6Hop,
		SrcAddr:           from,
		DstAddr:           to,
	})
	return append(out, icmp...)
}

// ipv4Frame wraps an ICMPv4 message whose sum is not yet made.
func ipv4Frame(from, to tcpip.Address, icmp []byte) []byte {
	header.ICMPv4(icmp).SetChecksum(header.ICMPv4Checksum(icmp, 0))
	out := newFrame(ethernet+header.IPv4MinimumSize, header.IPv4ProtocolNumber)
	h := header.IPv4(out[ethernet:])
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(icmp)),
		TTL:         64, // what Linux sends
		Protocol:    uint8(header.ICMPv4ProtocolNumber),
		SrcAddr:     from,
		DstAddr:     to,
	})
	h.SetChecksum(^h.CalculateChecksum())
	return append(out, icmp...)
}

// destination returns where a packet of the box was meant to go, for the audit
// log of one that is dropped, and its protocol's number.
func destination(frame []byte) (a netip.Addr, proto uint8) {
	packet := frame[ethernet:]
	if binary.BigEndian.Uint16(frame[12:]) == uint16(header.IPv4ProtocolNumber) {
		h := header.IPv4(packet)
		a, _ = netip.AddrFromSlice(bytes.Clone(h.DestinationAddressSlice()))
		return a, h.Protocol()
	}
	h := header.IPv6(packet)
	a, _ = netip.AddrFromSlice(bytes.Clone(h.DestinationAddressSlice()))
	return a, h.NextHeader()
}
