package gvisor

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"gvisor.dev/gvisor/runsc/boot"
	"gvisor.dev/gvisor/runsc/config"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// nicName is that of the device in the box.
const nicName = "eth0"

// Bounds of a link's MTU: what IPv6 demands, and the largest IPv4 packet.
const (
	minMTU = 1280
	maxMTU = 65535
)

// checkNIC refuses what would be our caller's mistake.
func checkNIC(n *engine.NIC) error {
	switch {
	case n == nil:
		return nil
	case n.Link == nil, len(n.MAC) != 6, len(n.Addrs) == 0:
		return fmt.Errorf("network device without a link, a hardware address of 6 bytes or an address: %+v", *n)
	case n.MTU < minMTU, n.MTU > maxMTU:
		return fmt.Errorf("network device with an MTU of %d: want %d to %d", n.MTU, minMTU, maxMTU)
	}
	return nil
}

// networkArgs is what the box has of a network: the loopback device and, with
// a NIC, a second one.
func networkArgs(n *engine.NIC) *boot.CreateLinksAndRoutesArgs {
	args := &boot.CreateLinksAndRoutesArgs{LoopbackLinks: []boot.LoopbackLink{boot.DefaultLoopbackLink}}
	if n == nil {
		return args
	}
	link := boot.FDBasedLink{
		Name:        nicName,
		MTU:         n.MTU,
		LinkAddress: n.MAC,
		// The other end is memory of this host: nothing can be damaged on the
		// way that a checksum would find.
		TXChecksumOffload: true,
		RXChecksumOffload: true,
		QDisc:             config.QDiscFIFO,
		NumChannels:       1,
	}
	for _, a := range n.Addrs {
		link.Addresses = append(link.Addresses, boot.IPWithPrefix{Address: a.Addr().AsSlice(), PrefixLen: a.Bits()})
		link.Routes = append(link.Routes, boot.Route{Destination: ipNet(a.Masked())})
	}
	for _, g := range n.Gateways {
		everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		route := &args.Defaultv4Gateway
		if g.Is6() {
			everywhere, route = netip.PrefixFrom(netip.IPv6Unspecified(), 0), &args.Defaultv6Gateway
		}
		*route = boot.DefaultRoute{Name: nicName, Route: boot.Route{Destination: ipNet(everywhere), Gateway: g.AsSlice()}}
	}
	args.FDBasedLinks = []boot.FDBasedLink{link}
	args.Files = []*os.File{n.Link}
	return args
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
