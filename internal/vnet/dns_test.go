package vnet

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/boxlite-go/boxlite/egress"
)

// TestAnswers promises what each kind of question is answered with, in a mode
// that allows the internet and in one that allows some names.
func TestAnswers(t *testing.T) {
	const (
		ok   = dnsmessage.RCodeSuccess
		none = dnsmessage.RCodeNameError
	)
	listed := policy(egress.AllowList, "allowed.test", "*.allowed.test")
	for _, tt := range []struct {
		name   string
		policy egress.Policy
		asked  string
		typ    dnsmessage.Type
		code   dnsmessage.RCode
		want   []string
		reason []egress.Reason
	}{
		{"addresses", listed, "allowed.test.", dnsmessage.TypeA, ok, []string{"203.0.113.7", "203.0.113.8"}, nil},
		{"any case", listed, "aLLowed.TEST.", dnsmessage.TypeA, ok, []string{"203.0.113.7", "203.0.113.8"}, nil},
		{"IPv6", listed, "allowed.test.", dnsmessage.TypeAAAA, ok, []string{"2001:db8::7"}, nil},
		{"a name without IPv6 exists", listed, "four.allowed.test.", dnsmessage.TypeAAAA, ok, nil, nil},
		{"no such name", listed, "no.allowed.test.", dnsmessage.TypeA, none, nil, nil},
		{"a name without a rule", listed, "evil.test.", dnsmessage.TypeA, none, nil, []egress.Reason{egress.ReasonNotAllowed}},
		{"a name that begins like one", listed, "allowed.test.evil.test.", dnsmessage.TypeA, none, nil, []egress.Reason{egress.ReasonNotAllowed}},
		{"a name with a zero byte", listed, "evil\x00.allowed.test.", dnsmessage.TypeA, none, nil, []egress.Reason{egress.ReasonBadName}},
		{
			"private addresses", listed, "rebind.allowed.test.", dnsmessage.TypeA, ok,
			[]string{"203.0.113.10"},
			[]egress.Reason{egress.ReasonPrivate, egress.ReasonMetadata, egress.ReasonLoopback},
		},
		{"an address of the host", listed, "own.allowed.test.", dnsmessage.TypeA, ok, nil, []egress.Reason{egress.ReasonHost}},
		{"text in a list", listed, "allowed.test.", dnsmessage.TypeTXT, ok, nil, []egress.Reason{egress.ReasonRecord}},
		{"reverse in a list", listed, "7.113.0.203.in-addr.arpa.", dnsmessage.TypePTR, none, nil, []egress.Reason{egress.ReasonNotAllowed}},
		{"HTTPS", listed, "allowed.test.", dnsmessage.TypeHTTPS, ok, nil, nil},
		{"NULL", egress.Policy{}, "allowed.test.", dnsmessage.Type(10), ok, nil, []egress.Reason{egress.ReasonRecord}},
		{"ANY", egress.Policy{}, "allowed.test.", dnsmessage.TypeALL, ok, nil, []egress.Reason{egress.ReasonRecord}},
		{"text", egress.Policy{}, "allowed.test.", dnsmessage.TypeTXT, ok, []string{"258 bytes of text"}, nil},
		{"mail", egress.Policy{}, "allowed.test.", dnsmessage.TypeMX, ok, []string{"10 mail.allowed.test."}, nil},
		{"name servers", egress.Policy{}, "allowed.test.", dnsmessage.TypeNS, ok, []string{"ns.allowed.test."}, nil},
		{"services", egress.Policy{}, "_s._tcp.allowed.test.", dnsmessage.TypeSRV, ok, []string{"1 2 443 allowed.test."}, nil},
		{"reverse", egress.Policy{}, "7.113.0.203.in-addr.arpa.", dnsmessage.TypePTR, ok, []string{"allowed.test."}, nil},
		{"reverse of a private address", egress.Policy{}, "5.1.168.192.in-addr.arpa.", dnsmessage.TypePTR, none, nil, []egress.Reason{egress.ReasonPrivate}},
		{"reverse of the gateway", egress.Policy{}, "1.127.168.192.in-addr.arpa.", dnsmessage.TypePTR, none, nil, nil},
		{"no text", egress.Policy{}, "four.allowed.test.", dnsmessage.TypeTXT, ok, nil, nil},
		{"the host", egress.Policy{}, "host.boxlite.internal.", dnsmessage.TypeA, none, nil, []egress.Reason{egress.ReasonAlias}},
		{"the host, by a rule", policy("", "host.boxlite.internal:8080"), "host.boxlite.internal.", dnsmessage.TypeA, ok, []string{"192.168.127.254"}, nil},
		{"the host over IPv6", policy("", "host.boxlite.internal"), "host.boxlite.internal.", dnsmessage.TypeAAAA, ok, nil, nil},
		{"our zone", egress.Policy{}, "other.boxlite.internal.", dnsmessage.TypeA, none, nil, nil},
		{
			"private addresses, by a rule", policy("", "192.168.1.0/24"), "rebind.allowed.test.", dnsmessage.TypeA, ok,
			[]string{"192.168.1.5", "203.0.113.10"},
			[]egress.Reason{egress.ReasonMetadata, egress.ReasonLoopback},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDNSTest(t, tt.policy)
			m := d.ask(tt.asked, tt.typ, 1232)
			if m.RCode != tt.code || !slices.Equal(bodies(m), tt.want) {
				t.Errorf("got %v with %v, want %v with %v", m.RCode, bodies(m), tt.code, tt.want)
			}
			got := d.refused()
			slices.Sort(got)
			slices.Sort(tt.reason)
			if !slices.Equal(got, tt.reason) {
				t.Errorf("refusals: got %q, want %q", got, tt.reason)
			}
			if slices.ContainsFunc(tt.reason, func(r egress.Reason) bool {
				return r == egress.ReasonNotAllowed || r == egress.ReasonBadName || r == egress.ReasonAlias || r == egress.ReasonRecord
			}) && len(d.asked) > 0 {
				t.Errorf("the server was asked for %q, want nothing to leave", d.asked)
			}
		})
	}
}

// TestPins promises that a flow can be told by the names that were looked up, and
// only while they may count.
func TestPins(t *testing.T) {
	d := newDNSTest(t, policy(egress.AllowList, "allowed.test", "*.allowed.test"))
	addr := netip.MustParseAddr("203.0.113.7")
	if got := d.names(addr); got != nil {
		t.Errorf("before: got %q, want none", got)
	}
	d.ask("allowed.test.", dnsmessage.TypeA, 0)
	d.ask("MANY.allowed.test.", dnsmessage.TypeA, 1232)
	if got, want := d.names(addr), []string{"allowed.test", "many.allowed.test"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := d.names(netip.MustParseAddr("::ffff:203.0.113.7")); len(got) != 2 {
		t.Errorf("mapped form: got %q, want the same", got)
	}
	for _, private := range []string{"192.168.1.5", "127.0.0.1"} {
		d.ask("rebind.allowed.test.", dnsmessage.TypeA, 0)
		if got := d.names(netip.MustParseAddr(private)); got != nil {
			t.Errorf("%s, which was not given out: got %q, want none", private, got)
		}
	}
}

// TestPinsAreBounded promises that pins end, and that there are not too many.
func TestPinsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pins
		first := netip.MustParseAddr("203.0.113.1")
		p.add("a.test", first)
		time.Sleep(pinLife / 2)
		p.add("b.test", first)
		time.Sleep(pinLife / 2)
		if got := p.names(first); !slices.Equal(got, []string{"b.test"}) {
			t.Errorf("when one has ended: got %q, want b.test", got)
		}
		p.add("b.test", first) // again: it counts from now
		next := first
		for range maxPins - 2 {
			next = next.Next()
			p.add("c.test", next)
		}
		p.add("b.test", first)
		for range 10 {
			next = next.Next()
			p.add("c.test", next)
		}
		if got := p.names(first); !slices.Equal(got, []string{"b.test"}) || p.all.Len() != maxPins {
			t.Errorf("full: got %q of %d, want what was asked for last to stay", got, p.all.Len())
		}
		if got := p.names(first.Next()); got != nil {
			t.Errorf("the oldest: got %q, want none", got)
		}
		for i := range 2 * maxNames {
			p.add(fmt.Sprintf("%d.test", i), next)
		}
		if got := p.names(next); len(got) != maxNames || !slices.Contains(got, fmt.Sprintf("%d.test", 2*maxNames-1)) {
			t.Errorf("names of one address: got %d, want the last %d", len(got), maxNames)
		}
		time.Sleep(pinLife)
		p.add("last.test", first)
		if p.all.Len() != 1 || len(p.byIP) != 1 {
			t.Errorf("when all have ended: %d pins of %d addresses are kept, want 1", p.all.Len(), len(p.byIP))
		}
	})
}

// TestAnswerSizes promises that an answer fits into what the box can take.
func TestAnswerSizes(t *testing.T) {
	d := newDNSTest(t, egress.Policy{})
	for _, tt := range []struct {
		name  string
		asked string
		edns  int
		want  int
		cut   bool
	}{
		{"too long for plain DNS", "many.allowed.test.", 0, 0, true},
		{"fits with EDNS", "many.allowed.test.", 1232, 60, false},
		{"a lie about EDNS", "many.allowed.test.", 1, 0, true},
		{"more than a client can use", "too.many.allowed.test.", 4096, maxAddrs, false},
	} {
		m := d.ask(tt.asked, dnsmessage.TypeA, tt.edns)
		if len(m.Answers) != tt.want || m.Truncated != tt.cut || m.RCode != 0 || len(m.Additionals) != min(1, tt.edns) {
			t.Errorf("%s: got %d answers, truncated %t, %v, %d options", tt.name, len(m.Answers), m.Truncated, m.RCode, len(m.Additionals))
		}
	}
	m := d.parse(d.answer(t.Context(), query(t, "many.allowed.test.", dnsmessage.TypeA, 0), false))
	if len(m.Answers) != 60 || m.Truncated {
		t.Errorf("over TCP: got %d answers, want all", len(m.Answers))
	}
}

// TestLookupsAreRecorded promises that the log has what was looked up: once for
// both families.
func TestLookupsAreRecorded(t *testing.T) {
	d := newDNSTest(t, policy(egress.AllowList, "*.test"))
	for _, name := range []string{"allowed.test.", "ALLOWED.test.", "many.allowed.test."} {
		d.ask(name, dnsmessage.TypeA, 0)
		d.ask(name, dnsmessage.TypeAAAA, 0)
	}
	var got []string
	for _, e := range d.events {
		got = append(got, fmt.Sprint(e.Kind, " ", e.Name, " ", e.Verdict))
	}
	if want := []string{"dns allowed.test allow (*.test)", "dns many.allowed.test allow (*.test)"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestNoIPv6 promises that no address is given out that the host cannot reach.
func TestNoIPv6(t *testing.T) {
	d := newDNSTest(t, egress.Policy{})
	d.routable = func(_ context.Context, a netip.Addr) bool { return a.Is4() }
	if m := d.ask("allowed.test.", dnsmessage.TypeAAAA, 0); m.RCode != 0 || len(m.Answers) != 0 {
		t.Errorf("got %v, %v, want no address and no error", m.RCode, bodies(m))
	}
	if !routable(t.Context(), netip.MustParseAddr("127.0.0.1")) {
		t.Error("127.0.0.1 is not routable")
	}
}

// TestOddQuestions promises an error, or silence, for what is no question.
func TestOddQuestions(t *testing.T) {
	d := newDNSTest(t, egress.Policy{})
	base := query(t, "allowed.test.", dnsmessage.TypeA, 0)
	change := func(i int, v ...byte) []byte {
		b := slices.Clone(base)
		copy(b[i:], v)
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		code int // -1: no answer
	}{
		{"nothing", nil, -1},
		{"half a header", base[:7], -1},
		{"an answer", change(2, 0x80), -1},
		{"no question", change(4, 0, 0), 1},
		{"two questions", change(4, 0, 2), 1},
		{"a cut question", base[:len(base)-3], 1},
		{"an update", change(2, 5<<3), 4},
		{"a class of old", change(len(base)-2, 0, 3), 4},
		{"EDNS of the future", func() []byte {
			b := query(t, "allowed.test.", dnsmessage.TypeA, 1232)
			b[len(b)-5] = 1
			return b
		}(), 0}, // 16, of which the header has the low bits
	} {
		b := d.answer(t.Context(), tt.b, true)
		if tt.code < 0 {
			if b != nil {
				t.Errorf("%s: got %x, want no answer", tt.name, b)
			}
			continue
		}
		if m := d.parse(b); int(m.RCode) != tt.code || len(m.Answers) > 0 {
			t.Errorf("%s: got %v with %v, want code %d", tt.name, m.RCode, bodies(m), tt.code)
		}
	}
}

// TestQuestionsAreBounded promises that a box cannot make us ask without end.
func TestQuestionsAreBounded(t *testing.T) {
	d := newDNSTest(t, egress.Policy{})
	d.stall, d.arrive = make(chan struct{}), make(chan struct{}, maxLookups)
	var wg sync.WaitGroup
	for i := range maxLookups {
		wg.Go(func() {
			d.answer(t.Context(), query(t, fmt.Sprintf("n%d.allowed.test.", i), dnsmessage.TypeMX, 0), true)
		})
	}
	for range maxLookups {
		<-d.arrive
	}
	if m := d.ask("allowed.test.", dnsmessage.TypeA, 0); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("one more: got %v, want it to fail at once", m.RCode)
	}
	close(d.stall)
	wg.Wait()

	// The clock of a bubble stands still while nobody sleeps.
	synctest.Test(t, func(t *testing.T) {
		r := newResolver(resolverConfig{note: func(egress.Event) {}})
		n := 0
		for ; r.admit(); n++ {
		}
		if n != lookupBurst {
			t.Errorf("burst: got %d, want %d", n, lookupBurst)
		}
		time.Sleep(time.Second)
		for n = 0; r.admit(); n++ {
		}
		if n != lookupRate {
			t.Errorf("in a second: got %d, want %d", n, lookupRate)
		}
	})
}

// FuzzAnswer promises that whatever a box sends gets no answer, or one that can
// be read.
func FuzzAnswer(f *testing.F) {
	f.Add(query(f, "allowed.test.", dnsmessage.TypeA, 1232), true)
	f.Add(query(f, "host.boxlite.internal.", dnsmessage.TypeAAAA, 0), false)
	f.Add([]byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01"), true)
	p := policy(egress.AllowList, "host.boxlite.internal")
	r := newResolver(resolverConfig{
		policy: func() *egress.Policy { return &p },
		note:   func(egress.Event) {},
		local:  func(netip.Addr) bool { return false },
	})
	f.Fuzz(func(t *testing.T, b []byte, udp bool) {
		r.left = lookupBurst
		out := r.answer(t.Context(), b, udp)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil {
			t.Fatalf("answer %x to %x: %v", out, b, err)
		}
		if !m.Response || m.ID != uint16(b[0])<<8|uint16(b[1]) || udp && len(out) > maxSize {
			t.Errorf("answer %+v of %d bytes to %x", m.Header, len(out), b)
		}
	})
}
