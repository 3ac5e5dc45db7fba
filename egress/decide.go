package egress

import (
	"net/netip"
	"slices"
)

// Flow is what a box is about to reach.
type Flow struct {
	Proto Proto
	Dst   netip.AddrPort // as the box wrote it; the port is 0 for ICMP
	Names []string       // names under which the box's resolver gave out the address
	Host  string         // what the client itself said (SNI, HTTP Host); empty: not known yet
	Local bool           // one of the address's [Forms] is the host's own
	Alias bool           // the address is that of [HostAlias] in the box
}

// flow is a Flow in the forms that rules are compared with.
type flow struct {
	Flow
	port    uint16
	forms   []netip.Addr // what the address stands for, itself first
	names   []string
	host    string // empty if the client said none, or an address
	said    bool   // the client said something
	guarded *Rule  // the first deny rule with a name that covers the flow
}

// Decide judges a flow. It fails closed: what the policy does not understand is
// denied.
func (p *Policy) Decide(f Flow) Verdict {
	if m := p.mode(); m != Enabled && m != AllowList {
		return deny(BuiltIn, ReasonDisabled)
	}
	w, bad := newFlow(f)
	if bad != "" {
		return deny(BuiltIn, bad)
	}
	if v, denied := p.denied(w); denied {
		return v
	}
	if f.Alias {
		return p.alias(w)
	}
	if v, decided := p.byAddress(w); decided {
		return v
	}
	if p.mode() == AllowList {
		return p.byName(w)
	}
	return p.open(w)
}

// newFlow brings a flow into form, or tells why it can be none.
func newFlow(f Flow) (*flow, Reason) {
	w := &flow{Flow: f, port: f.Dst.Port(), said: f.Host != ""}
	if !f.Dst.Addr().IsValid() {
		return nil, ReasonReserved
	}
	if f.Proto != TCP && f.Proto != UDP && f.Proto != ICMP {
		return nil, ReasonNotAllowed
	}
	w.forms = Forms(f.Dst.Addr())
	for _, n := range f.Names {
		if c, err := Name(n); err == nil {
			w.names = append(w.names, c)
		}
	}
	if a, ok := literal(f.Host); ok {
		if a != w.forms[0] {
			return nil, ReasonName
		}
	} else if w.said {
		var err error
		if w.host, err = Name(f.Host); err != nil {
			return nil, ReasonBadName
		}
	}
	return w, ""
}

// denied looks for a deny rule that is for the flow. Of the names it leaves
// those that no rule denies; when none is left, the flow is denied.
func (p *Policy) denied(f *flow) (Verdict, bool) {
	var last *Rule
	for i := range p.Deny {
		r := &p.Deny[i]
		if !r.covers(f.Proto, f.port) {
			continue
		}
		if r.target == anything || slices.ContainsFunc(f.forms, r.has) ||
			(f.host != "" && r.named(f.host)) || (f.Alias && r.named(HostAlias)) {
			return deny(r.text, ReasonRule), true
		}
		if !r.byName() {
			continue
		}
		if f.guarded == nil {
			f.guarded = r
		}
		n := len(f.names)
		if f.names = slices.DeleteFunc(f.names, r.named); len(f.names) < n {
			last = r
		}
	}
	// Only TCP can still say which of the names it means.
	if last != nil && (len(f.names) == 0 || f.Proto != TCP) {
		return deny(last.text, ReasonRule), true
	}
	return Verdict{}, false
}

// alias judges a flow to the loopback of the host.
func (p *Policy) alias(f *flow) Verdict {
	for i := range p.Allow {
		r := &p.Allow[i]
		if r.target == exact && r.name == HostAlias && r.covers(f.Proto, f.port) && (!f.dns() || r.hasPorts()) {
			return allow(r.text)
		}
	}
	return deny(BuiltIn, ReasonAlias)
}

// byAddress judges what needs no name: what allow rules open by address, and
// what is refused in every mode.
func (p *Policy) byAddress(f *flow) (Verdict, bool) {
	counts := func(r *Rule) bool {
		return r.covers(f.Proto, f.port) && (!f.dns() || r.single() || (r.target == prefix && r.hasPorts()))
	}
	var rule *Rule
	for i := range p.Allow {
		if r := &p.Allow[i]; counts(r) && f.reaches(r) && (rule == nil || r.single()) {
			rule = r
		}
	}
	if f.dns() && rule == nil {
		return deny(BuiltIn, ReasonDNS), true
	}
	opener, why := p.refused(f.forms, f.Local, counts)
	switch {
	case why != "":
		return deny(BuiltIn, why), true
	case opener != nil:
		return allow(opener.text), true
	case rule == nil:
		return Verdict{}, false
	case rule.single():
		return allow(rule.text), true
	}
	return f.watched(rule.text), true
}

// refused tells why the address may not be reached, or which rule, of those that
// count, opens it although it is one of those that are refused in every mode.
func (p *Policy) refused(forms []netip.Addr, local bool, counts func(*Rule) bool) (opener *Rule, why Reason) {
	find := func(fits func(*Rule) bool) *Rule {
		for i := range p.Allow {
			if r := &p.Allow[i]; counts(r) && fits(r) {
				return r
			}
		}
		return nil
	}
	for _, a := range forms {
		b, in := refusing(a)
		if !in {
			continue
		}
		if opener = find(func(r *Rule) bool { return r.has(a) && r.within(b.prefix) }); opener == nil {
			return nil, b.reason
		}
		local = local && b.reason != ReasonLoopback // which is the host's in any case
	}
	if local {
		if opener = find(func(r *Rule) bool { return r.single() && slices.ContainsFunc(forms, r.has) }); opener == nil {
			return nil, ReasonHost
		}
	}
	return opener, ""
}

// byName judges what only a name can open.
func (p *Policy) byName(f *flow) Verdict {
	rule, named := p.naming(f)
	switch {
	case rule == nil && named:
		return deny(ByDefault, ReasonUDP)
	case rule == nil:
		return deny(ByDefault, ReasonNotAllowed)
	case f.Proto != TCP:
		return allow(rule.text)
	case !f.said:
		return Verdict{Action: Sniff, Rule: rule.text}
	case !slices.Contains(f.names, f.host):
		return deny(rule.text, ReasonName)
	}
	for i := range p.Allow {
		if r := &p.Allow[i]; r.covers(f.Proto, f.port) && r.named(f.host) {
			return allow(r.text)
		}
	}
	return deny(ByDefault, ReasonNotAllowed)
}

// naming returns the first allow rule for a name of the flow. For UDP it must say
// so; named tells of a rule that would be for the flow but does not.
func (p *Policy) naming(f *flow) (rule *Rule, named bool) {
	for i := range p.Allow {
		r := &p.Allow[i]
		if !r.covers(f.Proto, f.port) || !slices.ContainsFunc(f.names, r.named) {
			continue
		}
		if f.Proto != UDP || r.proto == UDP {
			return r, true
		}
		named = true
	}
	return nil, named
}

// open judges what nothing is against in a mode that allows it.
func (p *Policy) open(f *flow) Verdict {
	rule, _ := p.naming(f)
	switch {
	case rule == nil:
		return f.watched(ByDefault)
	case f.Proto != TCP:
		return allow(rule.text)
	}
	return f.watched(rule.text)
}

// watched allows a flow, unless a deny rule with a name could be got round by
// not looking the name up.
func (f *flow) watched(rule string) Verdict {
	switch {
	case f.guarded == nil, f.Proto == TCP && f.said:
		return allow(rule)
	case f.Proto == TCP:
		return Verdict{Action: Sniff, Rule: rule}
	case f.Proto == UDP && f.port == quicPort:
		return deny(f.guarded.text, ReasonQUIC)
	case len(f.names) == 0:
		return deny(f.guarded.text, ReasonNoName)
	}
	return allow(rule)
}

// Ports that mean a protocol which goes round what is decided by names.
const (
	dnsPort  = 53
	dotPort  = 853 // DNS over TLS, and over QUIC
	quicPort = 443
)

// dns tells whether the flow is for a resolver.
func (f *flow) dns() bool {
	return f.Proto != ICMP && (f.port == dnsPort || f.port == dotPort)
}

// reaches tells whether a rule with addresses is for the flow: for the address as
// it was written, or for everything that it carries.
func (f *flow) reaches(r *Rule) bool {
	if r.target == anything || r.has(f.forms[0]) {
		return true
	}
	inner := f.forms[1:]
	return len(inner) > 0 && !slices.ContainsFunc(inner, func(a netip.Addr) bool { return !r.has(a) })
}

// has tells whether the rule has addresses, and a is one of them.
func (r *Rule) has(a netip.Addr) bool { return r.target == prefix && r.prefix.Contains(a) }
