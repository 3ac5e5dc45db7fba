package vnet

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/boxlite-go/boxlite/egress"
)

const (
	// lookupTimeout is what programs wait for one server before they ask
	// another or again.
	lookupTimeout = 5 * time.Second

	// maxLookups bounds the questions that are asked on behalf of the box at
	// once, and lookupRate those of a second, after a first burst. Both are far
	// above what installing packages or crawling needs; they bound what leaves
	// in the labels of an allowed wildcard.
	maxLookups  = 64
	lookupRate  = 200
	lookupBurst = 1000

	// maxAddrs bounds the addresses of an answer: no server that is meant for
	// clients has as many.
	maxAddrs = 64

	// The sizes of datagrams: without EDNS, and at most. There are no fragments
	// on the way to the box.
	plainSize = 512
	maxSize   = 4096
)

// resolverConfig is what a resolver needs of its network.
type resolverConfig struct {
	policy func() *egress.Policy
	local  func(netip.Addr) bool // is it an address of the host
	note   func(egress.Event)
	server netip.AddrPort // zero: the host's
}

// resolver answers the questions of the box and remembers its answers. It asks
// as the host does (/etc/hosts and the servers of /etc/resolv.conf), and never
// for what the policy does not allow to look up.
type resolver struct {
	resolverConfig
	pins
	host     *net.Resolver
	routable func(context.Context, netip.Addr) bool
	lookups  chan struct{} // holds one for each question that is being asked

	rate   sync.Mutex // what events and the rate of questions need
	left   float64    // questions of the burst
	filled time.Time
	warned time.Time
	last   string // the name that was recorded last
	at     time.Time
}

func newResolver(c resolverConfig) *resolver {
	r := &resolver{
		resolverConfig: c,
		host:           &net.Resolver{PreferGo: true},
		routable:       routable,
		lookups:        make(chan struct{}, maxLookups),
		left:           lookupBurst,
	}
	if c.server.IsValid() {
		r.host.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, c.server.String())
		}
	}
	return r
}

// routable tells whether the host has a route to a; nothing is sent.
func routable(ctx context.Context, a netip.Addr) bool {
	c, err := new(net.Dialer).DialContext(ctx, "udp", netip.AddrPortFrom(a, 9).String())
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// answer turns one DNS message into its answer; nil is none. It returns within
// lookupTimeout.
func (r *resolver) answer(ctx context.Context, query []byte, udp bool) []byte {
	q, ok := parseQuestion(query, udp)
	if !ok {
		return nil
	}
	if q.code == dnsmessage.RCodeSuccess {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		r.resolve(ctx, q)
	}
	return q.pack()
}

// resolve answers a question that is in order.
func (r *resolver) resolve(ctx context.Context, q *question) {
	if !r.admit() {
		q.code = dnsmessage.RCodeServerFailure
		return
	}
	v := r.policy().Lookup(q.asked)
	name, err := egress.Name(q.asked)
	if v.Action != egress.Allow || err != nil {
		r.noteDNS(q.asked, "", v)
		q.code = dnsmessage.RCodeNameError
		return
	}
	switch {
	case name == egress.HostAlias:
		r.answerAlias(q)
	case strings.HasSuffix("."+name, ownZone):
		q.code = dnsmessage.RCodeNameError
	case r.limited(q.what.Type):
		if q.what.Type != dnsmessage.TypeHTTPS && q.what.Type != dnsmessage.TypeSVCB { // every browser asks for these
			r.noteDNS(name, "", egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonRecord})
		}
	default:
		r.ask(ctx, q, name, v)
	}
}

// ownZone is the one in which we make names; nobody else is asked for it.
var ownZone = egress.HostAlias[strings.IndexByte(egress.HostAlias, '.'):]

// limited tells whether a record type is answered with nothing. Where only some
// names are allowed, no answer carries more than addresses. HTTPS and SVCB are
// not answered ever: they would hide from us which host is meant (ECH), or lead
// to other ports and protocols.
func (r *resolver) limited(t dnsmessage.Type) bool {
	switch t {
	case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
		return false
	case dnsmessage.TypeMX, dnsmessage.TypeTXT, dnsmessage.TypeSRV, dnsmessage.TypePTR, dnsmessage.TypeNS:
		return r.policy().Mode == egress.AllowList
	}
	return true
}

// ask looks a name up for the box.
func (r *resolver) ask(ctx context.Context, q *question, name string, v egress.Verdict) {
	select {
	case r.lookups <- struct{}{}:
		defer func() { <-r.lookups }()
	default:
		r.noteLimit()
		q.code = dnsmessage.RCodeServerFailure
		return
	}
	r.noteLookup(name, v)
	if t := q.what.Type; t == dnsmessage.TypeA || t == dnsmessage.TypeAAAA {
		r.answerAddrs(ctx, q, name)
		return
	}
	r.answerOther(ctx, q, name)
}

// answerAddrs looks up both families always, since only then it is known whether
// there is no such name, or only no such address. Some programs take the one for
// the other.
func (r *resolver) answerAddrs(ctx context.Context, q *question, name string) {
	addrs, err := r.host.LookupNetIP(ctx, "ip", name+".")
	if err != nil {
		q.fail(err, dnsmessage.RCodeNameError)
		return
	}
	p := r.policy()
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.Is4() != (q.what.Type == dnsmessage.TypeA) || len(q.answers) == maxAddrs {
			continue
		}
		if v := p.Answer(name, a, r.local(a)); v.Action != egress.Allow {
			r.noteDNS(name, a.String(), v)
			continue
		}
		if a.Is6() && !r.routable(ctx, a) {
			continue
		}
		r.add(name, a)
		q.addr(a)
	}
}

// answerAlias gives out the address of the host in the network of the box. There
// is one for IPv6 as well, but many servers of a host listen at 127.0.0.1 alone,
// and some programs of the box would try nothing else.
func (r *resolver) answerAlias(q *question) {
	if q.what.Type == dnsmessage.TypeA {
		r.add(egress.HostAlias, Alias4) // the host of a secret is told by its name
		q.addr(Alias4)
	}
}

// answerOther looks up records that are not addresses. That there are none is no
// error: the name may have others.
func (r *resolver) answerOther(ctx context.Context, q *question, name string) {
	var err error
	fqdn := name + "."
	switch q.what.Type {
	case dnsmessage.TypeCNAME:
		var target string
		if target, err = r.host.LookupCNAME(ctx, fqdn); err == nil && !strings.EqualFold(target, fqdn) {
			q.name(target, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.CNAMEResource{CNAME: n} })
		}
	case dnsmessage.TypeMX:
		var found []*net.MX
		found, err = r.host.LookupMX(ctx, fqdn)
		for _, m := range found {
			q.name(m.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.MXResource{Pref: m.Pref, MX: n} })
		}
	case dnsmessage.TypeNS:
		var found []*net.NS
		found, err = r.host.LookupNS(ctx, fqdn)
		for _, s := range found {
			q.name(s.Host, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.NSResource{NS: n} })
		}
	case dnsmessage.TypeSRV:
		var found []*net.SRV
		_, found, err = r.host.LookupSRV(ctx, "", "", fqdn)
		for _, s := range found {
			q.name(s.Target, func(n dnsmessage.Name) dnsmessage.ResourceBody {
				return &dnsmessage.SRVResource{Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: n}
			})
		}
	case dnsmessage.TypeTXT:
		var found []string
		found, err = r.host.LookupTXT(ctx, fqdn)
		for _, t := range found {
			q.text(t)
		}
	case dnsmessage.TypePTR:
		err = r.answerReverse(ctx, q, name)
	}
	if err != nil && len(q.answers) == 0 {
		q.fail(err, dnsmessage.RCodeSuccess)
	}
}

// answerReverse looks up the names of an address, if the box may know about it.
func (r *resolver) answerReverse(ctx context.Context, q *question, name string) error {
	a, ok := reversed(name)
	if !ok {
		return nil
	}
	if v := r.policy().Answer(name, a, r.local(a)); v.Action != egress.Allow {
		if !BoxIPv4.Contains(a) && !BoxIPv6.Contains(a) { // its own network is no secret, but has no names either
			r.noteDNS(name, a.String(), v)
		}
		q.code = dnsmessage.RCodeNameError
		return nil
	}
	found, err := r.host.LookupAddr(ctx, a.String())
	for _, n := range found {
		q.name(n, func(n dnsmessage.Name) dnsmessage.ResourceBody { return &dnsmessage.PTRResource{PTR: n} })
	}
	return err
}

// admit takes a question from the rate that a box may ask at.
func (r *resolver) admit() bool {
	now := time.Now()
	r.rate.Lock()
	r.left = min(lookupBurst, r.left+now.Sub(r.filled).Seconds()*lookupRate)
	r.filled = now
	ok := r.left >= 1
	if ok {
		r.left--
	}
	r.rate.Unlock()
	if !ok {
		r.noteLimit()
	}
	return ok
}

// noteLimit records that there are too many questions, once a second.
func (r *resolver) noteLimit() {
	now := time.Now()
	r.rate.Lock()
	due := now.Sub(r.warned) >= time.Second
	if due {
		r.warned = now
	}
	r.rate.Unlock()
	if due {
		r.noteDNS("", "", egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonLimit})
	}
}

// noteLookup records that a name was looked up. Programs ask for both families of
// addresses at once, which is one lookup.
func (r *resolver) noteLookup(name string, v egress.Verdict) {
	now := time.Now()
	r.rate.Lock()
	again := name == r.last && now.Sub(r.at) < time.Second
	r.last, r.at = name, now
	r.rate.Unlock()
	if !again {
		r.noteDNS(name, "", v)
	}
}

func (r *resolver) noteDNS(name, addr string, v egress.Verdict) {
	r.note(egress.Event{Kind: egress.KindDNS, Direction: egress.Out, Name: name, Addr: addr, Verdict: v})
}
