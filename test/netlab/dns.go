package netlab

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// zone is what the resolver knows. A name has answers one after another; each
// question for its IPv4 addresses moves on to the next, until the last.
type zone struct {
	*sync.Mutex
	answers map[string][]answer
}

type answer struct {
	addrs []netip.Addr
	cname string
	txt   string
}

func newZone() zone {
	z := zone{&sync.Mutex{}, map[string][]answer{}}
	both, other := []string{Allowed4, Allowed6}, []string{Other4, Other6}
	z.set([]Record{
		{Name: "allowed.test", Addrs: both},
		{Name: "www.allowed.test", Addrs: both},
		{Name: "shared.test", Addrs: both},
		{Name: "v4.allowed.test", Addrs: both[:1]},
		{Name: "v6.allowed.test", Addrs: both[1:]},
		{Name: "other.test", Addrs: other},
		{Name: "allowed.test.other.test", Addrs: other},
		{Name: "xallowed.test", Addrs: other},
		{Name: "alias.allowed.test", CNAME: "allowed.test"},
	})
	return z
}

func (z zone) set(rs []Record) {
	z.Lock()
	defer z.Unlock()
	for _, r := range rs {
		name := strings.ToLower(strings.TrimSuffix(r.Name, ".")) + "."
		a := answer{txt: r.TXT}
		if r.CNAME != "" {
			a.cname = strings.TrimSuffix(r.CNAME, ".") + "."
		}
		for _, s := range r.Addrs {
			a.addrs = append(a.addrs, netip.MustParseAddr(s))
		}
		if !r.Then {
			z.answers[name] = nil
		}
		z.answers[name] = append(z.answers[name], a)
	}
}

// next returns the answer for a name.
func (z zone) next(name string, t dnsmessage.Type) (answer, bool) {
	z.Lock()
	defer z.Unlock()
	name = strings.ToLower(name)
	as := z.answers[name]
	if len(as) == 0 {
		return answer{}, false
	}
	if len(as) > 1 && t == dnsmessage.TypeA {
		z.answers[name] = slices.Clone(as[1:])
	}
	return as[0], true
}

func (w *World) serveDNS() error {
	for _, s := range []struct {
		addr  string
		rogue bool
	}{
		{Resolver, false},
		{Resolver6, false},
		{Rogue4 + ":53", true},
		{Rogue4 + ":853", true},
		{"[" + Rogue6 + "]:53", true},
		{RoguePrivate + ":53", true},
	} {
		c, err := net.ListenPacket("udp", s.addr)
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		go w.datagramDNS(c, s.rogue)
		go each(func(c net.Conn) { w.streamDNS(c, s.rogue) })(l)
	}
	return nil
}

func (w *World) datagramDNS(c net.PacketConn, rogue bool) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		w.hit("udp", c.LocalAddr(), from)
		if reply := w.resolve(buf[:n], rogue); reply != nil {
			c.WriteTo(reply, from)
		}
	}
}

func (w *World) streamDNS(c net.Conn, rogue bool) {
	w.hit("tcp", c.LocalAddr(), c.RemoteAddr())
	for {
		var size uint16
		if binary.Read(c, binary.BigEndian, &size) != nil {
			return
		}
		query := make([]byte, size)
		if _, err := io.ReadFull(c, query); err != nil {
			return
		}
		reply := w.resolve(query, rogue)
		if reply == nil {
			return
		}
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	}
}

// resolve answers one message.
func (w *World) resolve(query []byte, rogue bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	w.question(strings.ToLower(q.Name.String())+" "+strings.TrimPrefix(q.Type.String(), "Type"), rogue)
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if rogue {
		m.Answers = records(q, answer{addrs: []netip.Addr{netip.MustParseAddr(Other4), netip.MustParseAddr(Other6)}, txt: "rogue"}, q.Name)
	} else if !w.answer(&m, q) {
		m.RCode = dnsmessage.RCodeNameError
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

// answer fills in what the zone has, following CNAMEs.
func (w *World) answer(m *dnsmessage.Message, q dnsmessage.Question) bool {
	owner := q.Name
	for range 8 {
		a, ok := w.zone.next(owner.String(), q.Type)
		if !ok {
			return len(m.Answers) > 0
		}
		m.Answers = append(m.Answers, records(q, a, owner)...)
		if a.cname == "" {
			break
		}
		owner = dnsmessage.MustNewName(a.cname)
	}
	return true
}

// records are those of an answer that fit the question. They may be kept for no
// time, so that each look-up comes here.
func records(q dnsmessage.Question, a answer, owner dnsmessage.Name) (rs []dnsmessage.Resource) {
	add := func(t dnsmessage.Type, body dnsmessage.ResourceBody) {
		rs = append(rs, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: owner, Type: t, Class: dnsmessage.ClassINET},
			Body:   body,
		})
	}
	if a.cname != "" {
		add(dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(a.cname)})
	}
	for _, addr := range a.addrs {
		switch {
		case q.Type == dnsmessage.TypeA && addr.Is4():
			add(q.Type, &dnsmessage.AResource{A: addr.As4()})
		case q.Type == dnsmessage.TypeAAAA && addr.Is6():
			add(q.Type, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	if q.Type == dnsmessage.TypeTXT && a.txt != "" {
		add(q.Type, &dnsmessage.TXTResource{TXT: []string{a.txt}})
	}
	return rs
}
