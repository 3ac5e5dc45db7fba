// Package egress decides what a box may reach: pure functions from a [Policy]
// and a [Flow] to a [Verdict]. It opens no socket and asks no resolver; the
// network of a box does that, and asks this package first.
//
// # Rules
//
// A [Rule] is written
//
//	[tcp:|udp:|icmp:]TARGET[:PORTS]
//
// TARGET is one of
//
//	api.example.com     that name
//	*.example.com       any name below it, at any depth, but not the name itself
//	*                   any public address, under any name or none
//	192.0.2.7           that address; an IPv6 address with ports is written [2001:db8::7]:443
//	10.20.0.0/16        the addresses of that prefix
//
// and PORTS is a list of ports and ranges: 443, or 80,443, or 8000-8100. A rule
// without a protocol is for all three, one without ports for all ports; one
// with ports is never for ICMP.
//
// # Order of decision
//
// Deny rules come first, then Allow rules, then what is refused in every mode,
// then the mode: [Enabled] allows the rest, [AllowList] refuses it, and with
// [Disabled] nothing is reached whatever the rules say.
//
// # What is refused in every mode
//
// Loopback, private networks (RFC 1918, carrier-grade NAT, unique local),
// link-local and metadata addresses, multicast and broadcast, reserved
// addresses, and the addresses of the host itself. Forms of IPv6 that carry an
// IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP) are judged as that address
// too.
//
// No name opens such an address, whatever it resolves to, nor does *, nor a
// prefix that is wider than the refused block: 0.0.0.0/0 means the public
// addresses, 10.0.0.0/8 the private ones in it. An address of the host is opened
// only by a rule for exactly that address. In a box 127.0.0.1 is the box itself;
// the loopback of the host has the name [HostAlias] there, which answers where an
// Allow rule has that very name.
//
// DNS beside the box's own resolver (ports 53 and 853) is refused unless an Allow
// rule has the server's address, or a prefix that holds it and the port.
//
// # Names
//
// Addresses have no names; what a box looked up has. The resolver of the box
// tells which names it gave out for an address, and a flow is judged by them.
// Many names may lie behind one address, so a TCP flow that only a name allows
// gets the verdict [Sniff]: the client's first bytes must say the name (TLS SNI,
// HTTP Host), and the flow is decided again. The same holds where a name is
// denied. Other protocols do not show a name, so
//
//   - UDP is opened by a rule with a name only if the rule says udp:, which means
//     every host behind the addresses of that name;
//   - where a deny rule has a name, QUIC (UDP port 443) is refused, and so is UDP
//     and ICMP to an address that was not looked up;
//   - a TCP protocol that says no name is judged by what was looked up alone.
//
// A name that is allowed is a channel to whoever answers for it: *.example.com
// lets a box send bytes to the name servers of example.com, in the labels.
package egress
