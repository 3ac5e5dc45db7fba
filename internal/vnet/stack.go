package vnet

import (
	"fmt"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// nic is the one card of our stack.
const nic tcpip.NICID = 1

// newStack makes a stack that has no card yet.
func newStack() *stack.Stack {
	return stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		// HandleLocal stays off: every address counts as ours, so a packet of
		// the box would be taken for one that we sent ourselves.
	})
}

// configure makes it our end of the network: a host that has the gateway's
// addresses and takes packets to every other one as well. Packets come from here
// on, so what is to handle them must be set.
func configure(s *stack.Stack, l *link) error {
	if err := s.CreateNIC(nic, l); err != nil {
		return fmt.Errorf("card of the box's network: %s", err)
	}
	for _, a := range []struct {
		netip.Prefix
		stack.PrimaryEndpointBehavior
	}{
		{netip.PrefixFrom(Gateway4, BoxIPv4.Bits()), stack.CanBePrimaryEndpoint},
		{netip.PrefixFrom(Gateway6, BoxIPv6.Bits()), stack.CanBePrimaryEndpoint},
		// For each packet the stack asks whether its source is a broadcast
		// address. A source that it does not know it looks for among the
		// addresses of all flows, which takes a millisecond when there are
		// thousands.
		{BoxIPv4, stack.NeverPrimaryEndpoint},
	} {
		pa := tcpip.ProtocolAddress{Protocol: protocolOf(a.Addr()), AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: addressOf(a.Addr()), PrefixLen: a.Bits(),
		}}
		if err := s.AddProtocolAddress(nic, pa, stack.AddressProperties{PEB: a.PrimaryEndpointBehavior}); err != nil {
			return fmt.Errorf("address %s of the box's network: %s", a.Prefix, err)
		}
	}
	s.SetPromiscuousMode(nic, true) // take packets for any address
	s.SetSpoofing(nic, true)        // answer from any address
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}, {Destination: header.IPv6EmptySubnet, NIC: nic}})
	return setTCP(s)
}

// setTCP says what TCP is like on a wire of a microsecond that keeps the order.
func setTCP(s *stack.Stack) error {
	sack := tcpip.TCPSACKEnabled(true) // what the box's end drops is sent again alone
	grow := tcpip.TCPModerateReceiveBufferOption(false)
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	half := tcpip.TCPLingerTimeoutOption(halfTime)
	largest := bufferSizes[0].size
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: int(largest), Max: int(largest)}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: int(largest), Max: int(largest)}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &grow, &wait, &half, &rcv, &snd} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("TCP of the box's network: %T: %s", o, err)
		}
	}
	return nil
}

func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

// addrPortOf is a port at an address. IPv4 addresses that are written as IPv6
// stay so: the policy judges what the box wrote.
func addrPortOf(a tcpip.Address, port uint16) netip.AddrPort {
	b, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(b, port)
}
