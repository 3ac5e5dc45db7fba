package vnet

import (
	"net"
	"net/netip"
)

// The addresses of a box and of what is beside it. Every box has the same ones:
// boxes share no wire.
var (
	BoxIPv4  = netip.MustParsePrefix("192.168.127.2/24")
	BoxIPv6  = netip.MustParsePrefix("fd42:b0c5:17e::2/64")
	Gateway4 = netip.MustParseAddr("192.168.127.1") // gateway and resolver
	Gateway6 = netip.MustParseAddr("fd42:b0c5:17e::1")
	Alias4   = netip.MustParseAddr("192.168.127.254") // the host's 127.0.0.1, where a rule allows it
	Alias6   = netip.MustParseAddr("fd42:b0c5:17e::fe")
)

// The hardware addresses: locally administered, so that they are nobody's.
var (
	BoxMAC     = net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xee}
	gatewayMAC = net.HardwareAddr{0x5a, 0x94, 0xef, 0xe4, 0x0c, 0xdd}
)

// MTU of the link, in bytes. Each frame costs a system call at either end, so it
// is as large as it can be: an IP packet of nearly 64 KiB. It is a multiple of 16
// and leaves room for the Ethernet header.
const MTU = 65520

// target is what is dialled for an address that the box wrote: itself, or for the
// alias the loopback of the host.
func target(a netip.AddrPort) netip.AddrPort {
	switch a.Addr() {
	case Alias4:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	case Alias6:
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	}
	return a
}

// isAlias tells whether a stands for the host.
func isAlias(a netip.Addr) bool { return a == Alias4 || a == Alias6 }
