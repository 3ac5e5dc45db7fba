package egress

import (
	"net/netip"
	"slices"
)

// Lookup tells whether the resolver of the box may look the name up. With
// [AllowList] that is so for names that an Allow rule has, for whatever protocol
// and port; a name that is denied without saying a protocol or ports is not
// looked up either.
func (p *Policy) Lookup(name string) Verdict {
	if m := p.mode(); m != Enabled && m != AllowList {
		return deny(BuiltIn, ReasonDisabled)
	}
	n, err := Name(name)
	if err != nil {
		return deny(BuiltIn, ReasonBadName)
	}
	for i := range p.Deny {
		if r := &p.Deny[i]; r.whole() && (r.target == anything || r.named(n)) {
			return deny(r.text, ReasonRule)
		}
	}
	for i := range p.Allow {
		r := &p.Allow[i]
		if n == HostAlias && r.target != exact {
			continue
		}
		if r.target == anything || r.named(n) {
			return allow(r.text)
		}
	}
	switch {
	case n == HostAlias:
		return deny(BuiltIn, ReasonAlias)
	case p.mode() == AllowList:
		return deny(ByDefault, ReasonNotAllowed)
	}
	return allow(ByDefault)
}

// Answer tells whether the resolver may give out the address for the name. It
// keeps names that resolve to refused addresses from being of any use; local
// says that the address is one of the host's own.
func (p *Policy) Answer(name string, a netip.Addr, local bool) Verdict {
	v := p.Lookup(name)
	if v.Action == Deny {
		return v
	}
	if !a.IsValid() {
		return deny(BuiltIn, ReasonReserved)
	}
	if n, _ := Name(name); n == HostAlias {
		return v // given out by the network itself, and judged again when reached
	}
	vs := Forms(a)
	for i := range p.Deny {
		if r := &p.Deny[i]; r.whole() && slices.ContainsFunc(vs, r.has) {
			return deny(r.text, ReasonRule)
		}
	}
	opener, why := p.refused(vs, local, func(*Rule) bool { return true })
	switch {
	case why != "":
		return deny(BuiltIn, why)
	case opener != nil:
		return allow(opener.text)
	}
	return v
}

// whole tells whether the rule is for all protocols and ports.
func (r *Rule) whole() bool { return r.proto == "" && !r.hasPorts() }
