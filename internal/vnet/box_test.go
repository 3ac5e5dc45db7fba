package vnet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/raw"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// testBox is the other end of a network: a stack as the one that a gVisor box
// has, with the settings that it has there.
type testBox struct {
	t     testing.TB
	net   *Network
	link  stack.LinkEndpoint
	stack *stack.Stack
	fd    int
}

// log keeps the events of a network.
type eventLog struct {
	mu     sync.Mutex
	events []egress.Event
	more   chan struct{}
}

func newEventLog() *eventLog { return &eventLog{more: make(chan struct{}, 1)} }

func (l *eventLog) record(e egress.Event) {
	l.mu.Lock()
	l.events = append(l.events, e)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *eventLog) all() []egress.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]egress.Event(nil), l.events...)
}

// await waits for an event.
func (l *eventLog) await(t testing.TB, what string, is func(egress.Event) bool) egress.Event {
	t.Helper()
	for deadline := time.After(20 * time.Second); ; {
		for _, e := range l.all() {
			if is(e) {
				return e
			}
		}
		select {
		case <-l.more:
		case <-deadline:
			events := l.all()
			t.Fatalf("no event: want %s; of %d the last are %+v", what, len(events), events[max(0, len(events)-10):])
		}
	}
}

// newBox makes a network with a box on it, and looks after the test whether
// anything is left.
func newBox(t testing.TB, c Config) *testBox {
	t.Helper()
	before := resources()
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	b := attach(t, n)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		b.close()
		before.compare(t)
	})
	return b
}

// attach makes the stack of a box at the end of a network's link.
func attach(t testing.TB, n *Network) *testBox {
	t.Helper()
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		RawFactory:         raw.EndpointFactory{},
		HandleLocal:        true,
	})
	fd, err := unix.FcntlInt(n.Link().Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ep, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: MTU, EthernetHeader: true, Address: tcpip.LinkAddress(BoxMAC),
		PacketDispatchMode: fdbased.RecvMMsg, TXChecksumOffload: true, RXChecksumOffload: true,
		ProcessorsPerChannel: 1, // those of more are never ended
	})
	if err != nil {
		t.Fatal(err)
	}
	b := &testBox{t: t, net: n, link: ep, stack: s, fd: fd}
	check := func(err tcpip.Error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.CreateNICWithOptions(nic, ep, stack.NICOptions{Name: "eth0", QDisc: fifo.New(ep, runtime.GOMAXPROCS(0), 1000)}))
	for _, p := range []netip.Prefix{BoxIPv4, BoxIPv6} {
		check(s.AddProtocolAddress(nic, tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()},
		}, stack.AddressProperties{}))
	}
	subnet := func(p netip.Prefix) tcpip.Subnet {
		return tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()}.Subnet()
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: subnet(BoxIPv4), NIC: nic},
		{Destination: subnet(BoxIPv6), NIC: nic},
		{Destination: header.IPv4EmptySubnet, Gateway: addressOf(Gateway4), NIC: nic},
		{Destination: header.IPv6EmptySubnet, Gateway: addressOf(Gateway6), NIC: nic},
	})
	sack := tcpip.TCPSACKEnabled(true)
	check(s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack))
	grow := tcpip.TCPModerateReceiveBufferOption(true)
	check(s.SetTransportProtocolOption(tcp.ProtocolNumber, &grow))
	return b
}

func (b *testBox) close() {
	b.link.Attach(nil) // waits for its reader, which may want a lock that Destroy holds
	b.stack.Destroy()
	unix.Close(b.fd)
}

// dial connects from inside the box.
func (b *testBox) dial(to netip.AddrPort) (*gonet.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return gonet.DialContextTCP(ctx, b.stack, fullAddress(to), protocolOf(to.Addr()))
}

// mustDial is dial that succeeds.
func (b *testBox) mustDial(to netip.AddrPort) *gonet.TCPConn {
	b.t.Helper()
	c, err := b.dial(to)
	if err != nil {
		b.t.Fatalf("dial %s from the box: %v", to, err)
	}
	b.t.Cleanup(func() { c.Close() })
	return c
}

// dialUDP makes a connected UDP socket in the box.
func (b *testBox) dialUDP(to netip.AddrPort) *boxPort {
	b.t.Helper()
	queue := new(waiter.Queue)
	ep, err := b.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(to.Addr()), queue)
	if err == nil {
		err = ep.Connect(fullAddress(to))
	}
	if err != nil {
		b.t.Fatalf("UDP to %s from the box: %s", to, err)
	}
	c := newBoxPort(ep, queue, nil)
	b.t.Cleanup(func() { c.Close() })
	return c
}

// listen listens in the box, on the box's address of IPv4.
func (b *testBox) listen(port uint16) *gonet.TCPListener {
	b.t.Helper()
	l, err := gonet.ListenTCP(b.stack, fullAddress(netip.AddrPortFrom(BoxIPv4.Addr(), port)), ipv4.ProtocolNumber)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	return l
}

// alias is what the box writes for a listener on the host's loopback.
func alias(a net.Addr) netip.AddrPort {
	var p netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		p = a.AddrPort()
	case *net.UDPAddr:
		p = a.AddrPort()
	}
	if p.Addr().Is6() && !p.Addr().Is4In6() {
		return netip.AddrPortFrom(Alias6, p.Port())
	}
	return netip.AddrPortFrom(Alias4, p.Port())
}

// hostAllowed is a policy that lets the box reach the host's loopback.
func hostAllowed() egress.Policy {
	return egress.Policy{Allow: []egress.Rule{egress.MustParse("host.boxlite.internal")}}
}

// serve runs a server on the host's loopback that calls handle for each
// connection, and closes it then.
func serve(t testing.TB, addr string, handle func(*net.TCPConn)) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() {
				handle(c.(*net.TCPConn))
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr()
}

// repeat is a handler that says what it hears.
func repeat(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// held is what a process has of things that can leak.
type held struct{ goroutines, fds int }

func resources() held {
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	h := held{goroutines: runtime.NumGoroutine()}
	for _, fd := range fds {
		// The first socket of a process makes the one that all wait with.
		// The other end of the link, gVisor's, never closes its event counter.
		// A server of a test that copies with splice keeps pipes for later.
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if to != "anon_inode:[eventfd]" && to != "anon_inode:[eventpoll]" && !strings.HasPrefix(to, "pipe:") {
			h.fds++
		}
	}
	return h
}

// compare fails the test if there is more than there was.
func (h held) compare(t testing.TB) {
	t.Helper()
	var now held
	for range 200 { // what ends by itself needs a moment
		if now = resources(); now.goroutines <= h.goroutines && now.fds <= h.fds {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Errorf("after the network is closed: %+v, want at most %+v\n%s", now, h, interesting(string(buf[:runtime.Stack(buf, true)])))
}

// interesting drops the goroutines of the test runner.
func interesting(stacks string) string {
	var out []string
	for _, s := range strings.Split(stacks, "\n\n") {
		if !strings.Contains(s, "testing.") {
			out = append(out, s)
		}
	}
	return strings.Join(out, "\n\n")
}

func isRefused(err error) bool {
	return err != nil && strings.Contains(err.Error(), (&tcpip.ErrConnectionRefused{}).String())
}

func isReset(err error) bool {
	return err != nil && !errors.Is(err, io.EOF) && strings.Contains(err.Error(), "reset")
}
