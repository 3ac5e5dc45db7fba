package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/boxlite-go/boxlite/egress"
)

// dnsTest is a resolver that asks a server of the test.
type dnsTest struct {
	*resolver
	t      *testing.T
	policy atomic.Pointer[egress.Policy]

	mu     sync.Mutex
	events []egress.Event
	asked  []string      // names that reached the server
	stall  chan struct{} // holds back what arrived
	arrive chan struct{}
}

// zone is what the server of the tests knows.
var zone = map[string][]dnsmessage.ResourceBody{
	"allowed.test. A":      {a("203.0.113.7"), a("203.0.113.8")},
	"allowed.test. AAAA":   {&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::7").As16()}},
	"four.allowed.test. A": {a("203.0.113.9")},
	"allowed.test. TXT":    {&dnsmessage.TXTResource{TXT: []string{strings.Repeat("x", 255), "yes"}}},
	"allowed.test. MX":     {&dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName("mail.allowed.test.")}},
	"allowed.test. NS":     {&dnsmessage.NSResource{NS: dnsmessage.MustNewName("ns.allowed.test.")}},
	"_s._tcp.allowed.test. SRV": {&dnsmessage.SRVResource{
		Priority: 1, Weight: 2, Port: 443, Target: dnsmessage.MustNewName("allowed.test."),
	}},
	"7.113.0.203.in-addr.arpa. PTR": {&dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("allowed.test.")}},
	"rebind.allowed.test. A":        {a("192.168.1.5"), a("169.254.169.254"), a("127.0.0.1"), a("203.0.113.10")},
	"many.allowed.test. A":          many(60),
	"too.many.allowed.test. A":      many(200),
	"own.allowed.test. A":           {a("203.0.113.99")},
}

func a(s string) dnsmessage.ResourceBody {
	return &dnsmessage.AResource{A: netip.MustParseAddr(s).As4()}
}

func many(n int) (all []dnsmessage.ResourceBody) {
	for i := range n {
		all = append(all, a(fmt.Sprintf("203.0.113.%d", i+1)))
	}
	return all
}

func newDNSTest(t *testing.T, p egress.Policy) *dnsTest {
	t.Helper()
	d := &dnsTest{t: t}
	d.policy.Store(&p)
	d.resolver = newResolver(resolverConfig{
		policy: d.policy.Load,
		local:  func(a netip.Addr) bool { return a == netip.MustParseAddr("203.0.113.99") },
		server: d.serve(),
		note: func(e egress.Event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.events = append(d.events, e)
		},
	})
	d.routable = func(context.Context, netip.Addr) bool { return true }
	return d
}

// serve runs a DNS server on loopback, over UDP and TCP.
func (d *dnsTest) serve() netip.AddrPort {
	d.t.Helper()
	u, l := listenBoth(d.t)
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			q := slices.Clone(b[:n])
			wg.Go(func() { _, _ = u.WriteTo(d.reply(q, 1232), from) })
		}
	})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			r := d.reply(b[2:n], 1<<16-1)
			_, _ = c.Write(append([]byte{byte(len(r) >> 8), byte(len(r))}, r...))
			c.Close()
		}
	})
	d.t.Cleanup(func() {
		u.Close()
		l.Close()
		wg.Wait()
	})
	return netip.MustParseAddrPort(u.LocalAddr().String())
}

// listenBoth listens on one port for both protocols, of which one may be taken.
func listenBoth(t *testing.T) (u net.PacketConn, l net.Listener) {
	t.Helper()
	var err error
	for range 20 {
		if u, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			break
		}
		if l, err = net.Listen("tcp", u.LocalAddr().String()); err == nil {
			return u, l
		}
		u.Close()
	}
	t.Fatal(err)
	return nil, nil
}

func (d *dnsTest) reply(query []byte, limit int) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		panic(err)
	}
	q := m.Questions[0]
	d.mu.Lock()
	d.asked = append(d.asked, q.Name.String())
	stall := d.stall
	d.mu.Unlock()
	if stall != nil {
		d.arrive <- struct{}{}
		<-stall
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	key := strings.ToLower(q.Name.String()) + " " + strings.TrimPrefix(q.Type.String(), "Type")
	for _, body := range zone[key] {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, Body: body,
		})
	}
	m.RCode = dnsmessage.RCodeNameError
	for k := range zone {
		if strings.HasPrefix(k, strings.ToLower(q.Name.String())+" ") {
			m.RCode = dnsmessage.RCodeSuccess
		}
	}
	b, err := m.Pack()
	if err == nil && len(b) > limit {
		m.Answers, m.Truncated = nil, true
		b, err = m.Pack()
	}
	if err != nil {
		panic(err)
	}
	return b
}

// query packs a question with EDNS for that many bytes, or without if it is 0.
func query(t testing.TB, name string, typ dnsmessage.Type, edns int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	if edns > 0 {
		var h dnsmessage.ResourceHeader
		_ = h.SetEDNS0(edns, 0, false)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// ask returns the answer to a question, over UDP without EDNS if edns is 0.
func (d *dnsTest) ask(name string, typ dnsmessage.Type, edns int) *dnsmessage.Message {
	d.t.Helper()
	return d.parse(d.answer(d.t.Context(), query(d.t, name, typ, edns), true))
}

func (d *dnsTest) parse(b []byte) *dnsmessage.Message {
	d.t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || !m.Response || m.ID != 4711 {
		d.t.Fatalf("answer: got %v, %+v", err, m.Header)
	}
	return &m
}

// bodies says what the records of an answer are.
func bodies(m *dnsmessage.Message) (all []string) {
	for _, r := range m.Answers {
		switch b := r.Body.(type) {
		case *dnsmessage.AResource:
			all = append(all, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			all = append(all, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.TXTResource:
			all = append(all, fmt.Sprintf("%d bytes of text", len(strings.Join(b.TXT, ""))))
		case *dnsmessage.MXResource:
			all = append(all, fmt.Sprint(b.Pref, " ", b.MX))
		case *dnsmessage.NSResource:
			all = append(all, b.NS.String())
		case *dnsmessage.PTRResource:
			all = append(all, b.PTR.String())
		case *dnsmessage.SRVResource:
			all = append(all, fmt.Sprint(b.Priority, b.Weight, b.Port, " ", b.Target))
		}
	}
	slices.Sort(all)
	return all
}

func (d *dnsTest) refused() (why []egress.Reason) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Action == egress.Deny {
			why = append(why, e.Reason)
		}
	}
	return why
}
