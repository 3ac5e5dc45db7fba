package egress

import (
	"encoding/binary"
	"net/netip"
)

// block is a range of addresses that is refused in every mode.
type block struct {
	prefix netip.Prefix
	reason Reason
}

// blocks has the more specific ones first, for a better reason. The ranges for
// documentation are not among them: nothing is there to be protected.
var blocks = []block{
	// Where clouds keep credentials: these lie in other blocks, or are public
	// addresses that mean the host's platform.
	{netip.MustParsePrefix("100.100.100.200/32"), ReasonMetadata}, // Alibaba
	{netip.MustParsePrefix("168.63.129.16/32"), ReasonMetadata},   // Azure
	{netip.MustParsePrefix("192.0.0.192/32"), ReasonMetadata},     // Oracle
	{netip.MustParsePrefix("fd00:ec2::/32"), ReasonMetadata},      // Amazon
	{netip.MustParsePrefix("fd20:ce::/32"), ReasonMetadata},       // Google
	{netip.MustParsePrefix("fd00:42::42/128"), ReasonMetadata},    // Scaleway
	{netip.MustParsePrefix("169.254.0.0/16"), ReasonMetadata},
	{netip.MustParsePrefix("fe80::/10"), ReasonMetadata},

	{netip.MustParsePrefix("0.0.0.0/8"), ReasonLoopback}, // 0.0.0.0 is this host
	{netip.MustParsePrefix("127.0.0.0/8"), ReasonLoopback},
	{netip.MustParsePrefix("::/127"), ReasonLoopback},

	{netip.MustParsePrefix("10.0.0.0/8"), ReasonPrivate},
	{netip.MustParsePrefix("100.64.0.0/10"), ReasonPrivate},
	{netip.MustParsePrefix("172.16.0.0/12"), ReasonPrivate},
	{netip.MustParsePrefix("192.168.0.0/16"), ReasonPrivate},
	{netip.MustParsePrefix("198.18.0.0/15"), ReasonPrivate},
	{netip.MustParsePrefix("fc00::/7"), ReasonPrivate},
	{netip.MustParsePrefix("fec0::/10"), ReasonPrivate},
	{netip.MustParsePrefix("64:ff9b:1::/48"), ReasonPrivate}, // NAT64 of a site: whatever it maps to

	{netip.MustParsePrefix("224.0.0.0/4"), ReasonMulticast},
	{netip.MustParsePrefix("255.255.255.255/32"), ReasonMulticast},
	{netip.MustParsePrefix("ff00::/8"), ReasonMulticast},

	{netip.MustParsePrefix("192.0.0.0/24"), ReasonReserved},
	{netip.MustParsePrefix("192.88.99.0/24"), ReasonReserved},
	{netip.MustParsePrefix("240.0.0.0/4"), ReasonReserved},
	{netip.MustParsePrefix("100::/64"), ReasonReserved},
	{netip.MustParsePrefix("2001:2::/48"), ReasonReserved},
	{netip.MustParsePrefix("5f00::/16"), ReasonReserved},
}

// Prefixes of IPv6 whose addresses carry one of IPv4.
var (
	mapped     = netip.MustParsePrefix("::ffff:0:0/96")
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
)

// Forms returns the addresses that a stands for: itself, without zone and as IPv4
// if it is mapped, and those of IPv4 that it carries. [Flow.Local] is set if one
// of them is the host's.
func Forms(a netip.Addr) []netip.Addr {
	a = a.WithZone("").Unmap()
	vs := append(make([]netip.Addr, 0, 3), a)
	if !a.Is6() {
		return vs
	}
	b := a.As16()
	switch {
	case compatible.Contains(a) && !loopback6(a), translated.Contains(a), nat64.Contains(a):
		return append(vs, netip.AddrFrom4([4]byte(b[12:])))
	case sixToFour.Contains(a):
		return append(vs, netip.AddrFrom4([4]byte(b[2:])))
	case teredo.Contains(a):
		client := ^binary.BigEndian.Uint32(b[12:])
		return append(vs, netip.AddrFrom4([4]byte(b[4:])), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, client))))
	case binary.BigEndian.Uint32(b[8:])&^0x0200_0000 == 0x5efe: // ISATAP: with or without the bit for "global"
		return append(vs, netip.AddrFrom4([4]byte(b[12:])))
	}
	return vs
}

func loopback6(a netip.Addr) bool { return a.IsLoopback() || a.IsUnspecified() }

// refusing returns the block that holds a, if any.
func refusing(a netip.Addr) (block, bool) {
	for _, b := range blocks {
		if b.prefix.Contains(a) {
			return b, true
		}
	}
	return block{}, false
}

// plain turns a prefix of mapped or NAT64 addresses into the one of IPv4 that it
// stands for, so that a rule can be written either way.
func plain(p netip.Prefix) netip.Prefix {
	for _, w := range []netip.Prefix{mapped, nat64} {
		if p.Bits() >= w.Bits() && w.Contains(p.Addr()) {
			b := p.Addr().As16()
			return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-w.Bits())
		}
	}
	return p
}
