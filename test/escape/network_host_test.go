package escape

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// listen accepts on an address of the host and says so to whoever comes.
func listen(t *testing.T, addr string) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "the host")
			c.Close()
		}
	}()
	return int(netip.MustParseAddrPort(l.Addr().String()).Port())
}

// TestTheHost looks for servers on the loopback of the host, on its own
// addresses, and behind the addresses that only the box knows it by.
func TestTheHost(t *testing.T) {
	netlab.Need(t)
	loopback, loopback6 := listen(t, "127.0.0.1:0"), listen(t, "[::1]:0")
	public, public6 := listen(t, netlab.HostIPv4+":0"), listen(t, "["+netlab.HostIPv6+"]:0")
	at := func(to string, port int) netlab.Probe { return netlab.Probe{Op: "tcp", To: to, Port: port} }
	alias := func(port int) string { return fmt.Sprintf("%s:%d", egress.HostAlias, port) }
	const gateway, gateway6, alias4, alias6 = "192.168.127.1", "fd42:b0c5:17e::1", "192.168.127.254", "fd42:b0c5:17e::fe"
	try(t, egress.Policy{}, []attack{
		{"its address", at(netlab.HostIPv4, public), egress.ReasonHost, netlab.HostIPv4, netlab.HostIPv4},
		{"its IPv6 address", at(netlab.HostIPv6, public6), egress.ReasonHost, netlab.HostIPv6, fmt.Sprintf("[%s]:%d", netlab.HostIPv6, public6)},
		{"its address, mapped", at("::ffff:"+netlab.HostIPv4, public), egress.ReasonHost, netlab.HostIPv4, netlab.HostIPv4},
		{"its name", netlab.Probe{Op: "lookup", To: egress.HostAlias}, egress.ReasonAlias, egress.HostAlias, alias(loopback)},
		{"its loopback", at(alias4, loopback), egress.ReasonAlias, alias4, alias(loopback)},
		{"its IPv6 loopback", at(alias6, loopback6), egress.ReasonAlias, alias6, alias(loopback6)},
		{"through the gateway", at(gateway, loopback), egress.ReasonPrivate, gateway, ""},
		{"through the IPv6 gateway", at(gateway6, loopback6), egress.ReasonPrivate, gateway6, ""},
	})
}

// TestTheHostByOtherRules shows that no rule but that for its name opens the
// loopback, and no prefix the host's own addresses.
func TestTheHostByOtherRules(t *testing.T) {
	netlab.Need(t)
	loopback, public := listen(t, "127.0.0.1:0"), listen(t, netlab.HostIPv4+":0")
	p := netlab.Policy(t, egress.AllowList, "*", "*.internal", "*.boxlite.internal", "192.168.0.0/16", "192.168.127.254", "198.51.100.0/24")
	try(t, p, []attack{
		{"loopback", netlab.Probe{Op: "tcp", To: "192.168.127.254", Port: loopback}, egress.ReasonAlias, "192.168.127.254", ""},
		{"another port", netlab.Probe{Op: "lookup", To: egress.HostAlias}, egress.ReasonAlias, egress.HostAlias, ""},
		{"its address", netlab.Probe{Op: "tcp", To: netlab.HostIPv4, Port: public}, egress.ReasonHost, netlab.HostIPv4, netlab.HostIPv4},
	})
}

// TestLoopbackOnTheWire writes packets to loopback addresses, which a kernel
// would not send, with a raw socket.
func TestLoopbackOnTheWire(t *testing.T) {
	lab, b := box(t, egress.Policy{})
	before := lab.Seen(t)
	for _, r := range netlab.Attempt(t, b,
		netlab.Probe{Op: "spoof", Proto: "tcp", Src: "192.168.127.2", To: "127.0.0.1", Port: listen(t, "127.0.0.1:0")},
		netlab.Probe{Op: "spoof", Proto: "udp", Src: "192.168.127.2", To: "127.0.0.1", Port: 9},
		netlab.Probe{Op: "spoof", Proto: "tcp", Src: "127.0.0.1", To: "127.0.0.1", Port: 80},
		netlab.Probe{Op: "spoof", Proto: "tcp", Src: "192.168.127.2", To: "0.0.0.0", Port: 80},
	) {
		t.Logf("%+v", r)
	}
	alive(t, lab, b)
	unseen(t, before, lab.Seen(t), "tcp "+netlab.Allowed4+":80")
	for _, e := range netlab.Log(t, b) {
		if e.Action != egress.Deny && e.Addr != netlab.Allowed4+":80" && e.Kind == egress.KindFlow {
			t.Errorf("allowed: %s", netlab.Lines([]egress.Event{e}))
		}
	}
}
