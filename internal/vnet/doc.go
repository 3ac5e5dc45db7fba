// Package vnet is the network of one box: a TCP/IP stack in our own process, at
// the other end of a socket that the box takes for its network card. Nothing on
// the host is set up for it, and no privilege is needed.
//
//	box  eth0 == datagram socket == link | stack | forwarders -> policy -> sockets of the host
//
// Every connection, UDP flow, ping and question to the resolver becomes an
// [egress.Flow] that the policy decides; only then is a socket of the host
// opened, by us, to the very address that was decided on. Bytes are copied
// between the two. A packet of the box therefore never reaches a wire: it cannot
// be spoofed, fragmented oddly, or sent past the policy.
//
// A refusal is immediate: a connection is reset, a datagram or a ping is answered
// with ICMP unreachable, and it is recorded with the rule and the reason.
//
// Everything that the box can make us hold is bounded; see limits.go.
package vnet
