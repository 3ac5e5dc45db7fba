package egress

import (
	"encoding"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ErrRule says that a text is not a rule.
var ErrRule = errors.New("not a rule")

// Proto is a protocol that a rule can be for.
type Proto string

// The protocols. ICMP is the echo of ping; nothing else of it leaves a box.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	ICMP Proto = "icmp"
)

// maxSpans bounds the ports of a rule, and maxRule its text: the longest name
// with the longest ports.
const (
	maxSpans = 16
	maxRule  = 512
)

// target is what kind of thing a rule names.
type target uint8

const (
	nothing target = iota // the zero Rule
	anything
	exact  // a name
	below  // the names below a name
	prefix // addresses
)

// span is a range of ports, both ends included. The zero span ends a list.
type span struct{ low, high uint16 }

// Rule is one line of a [Policy], as [Parse] takes it. Rules are equal if they
// were written alike. The zero Rule is for nothing, and [Policy.Check] refuses
// it.
type Rule struct {
	text   string
	proto  Proto // empty: all
	target target
	name   string
	prefix netip.Prefix // of one family, masked
	ports  [maxSpans]span
}

var (
	_ encoding.TextMarshaler   = Rule{}
	_ encoding.TextUnmarshaler = (*Rule)(nil)
)

// String returns the rule as it was written.
func (r Rule) String() string { return r.text }

// MarshalText returns the rule as it was written.
func (r Rule) MarshalText() ([]byte, error) { return []byte(r.text), nil }

// UnmarshalText is [Parse].
func (r *Rule) UnmarshalText(b []byte) error {
	parsed, err := Parse(string(b))
	if err == nil {
		*r = parsed
	}
	return err
}

// MustParse is [Parse] for rules that are constants of a program. It panics if
// s is not a rule.
func MustParse(s string) Rule {
	r, err := Parse(s)
	if err != nil {
		panic(err)
	}
	return r
}

// Parse reads a rule: [tcp:|udp:|icmp:]TARGET[:PORTS]. The error is [ErrRule],
// and says which part is wrong.
func Parse(s string) (Rule, error) {
	r, err := parse(s)
	if err != nil {
		return Rule{}, fmt.Errorf("%w: %q: %w", ErrRule, shorten(s), err)
	}
	return r, nil
}

func parse(s string) (Rule, error) {
	r := Rule{text: s}
	if len(s) > maxRule {
		return r, fmt.Errorf("longer than %d bytes", maxRule)
	}
	if strings.Contains(s, "://") {
		return r, errors.New(`a rule is for a host, not for a URL: write "example.com:443"`)
	}
	rest := s
	for _, p := range []Proto{TCP, UDP, ICMP} {
		if len(rest) > len(p) && rest[len(p)] == ':' && strings.EqualFold(rest[:len(p)], string(p)) {
			r.proto, rest = p, rest[len(p)+1:]
			break
		}
	}
	host, ports, err := split(rest)
	if err != nil {
		return r, err
	}
	if err := r.setTarget(host); err != nil {
		return r, err
	}
	if ports == nil {
		return r, nil
	}
	if r.proto == ICMP {
		return r, errors.New("icmp has no ports")
	}
	return r, r.setPorts(*ports)
}

// split parts the target from the ports, which are nil if there are none.
func split(s string) (host string, ports *string, err error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, after, closed := strings.Cut(inner, "]")
		switch p, some := strings.CutPrefix(after, ":"); {
		case !closed:
			return "", nil, errors.New("the bracket is not closed")
		case !strings.Contains(host, ":"):
			return "", nil, fmt.Errorf("in brackets stands an IPv6 address, not %q", host)
		case some:
			return host, &p, nil
		case after != "":
			return "", nil, fmt.Errorf("%q after the bracket: write [ADDRESS]:PORTS", after)
		}
		return host, nil, nil
	}
	host, after, some := strings.Cut(s, ":")
	switch {
	case !some:
		return s, nil, nil
	case strings.Contains(after, ":"): // IPv6 without brackets has no ports
		return s, nil, nil
	}
	return host, &after, nil
}

func (r *Rule) setTarget(s string) (err error) {
	switch {
	case s == "":
		return errors.New("names no host: give a name, an address, a prefix or *")
	case s == "*":
		r.target = anything
		return nil
	case strings.ContainsAny(s, "/:") || isAddr(s):
		r.target = prefix
		r.prefix, err = parsePrefix(s)
		return err
	}
	r.target = exact
	if rest, ok := strings.CutPrefix(s, "*."); ok {
		r.target, s = below, rest
	}
	if strings.Contains(s, "*") {
		return errors.New(`a * stands for all in front of a dot: write "*.example.com" for the names below example.com`)
	}
	r.name, err = Name(s)
	return err
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an address", s)
		}
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("address %q: a box has no zones", s)
		}
		return plain(netip.PrefixFrom(a, a.BitLen())), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix like 10.0.0.0/8", s)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits after its prefix: write %s, or the address alone", s, p.Masked())
	}
	return plain(p), nil
}

func (r *Rule) setPorts(s string) error {
	n := 0
	for part := range strings.SplitSeq(s, ",") {
		if n == maxSpans {
			return fmt.Errorf("more than %d ports or ranges: use several rules", maxSpans)
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		low, err := parsePort(first)
		if err != nil {
			return err
		}
		high, err := parsePort(last)
		if err != nil {
			return err
		}
		if low > high {
			return fmt.Errorf("ports %q: the range is empty", part)
		}
		r.ports[n] = span{low, high}
		n++
	}
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a port: give 1 to 65535", s)
	}
	return uint16(n), nil
}

// hasPorts tells whether the rule says ports.
func (r *Rule) hasPorts() bool { return r.ports[0] != span{} }

// covers tells whether the rule is for this protocol and port.
func (r *Rule) covers(p Proto, port uint16) bool {
	if r.proto != "" && r.proto != p {
		return false
	}
	if !r.hasPorts() {
		return true
	}
	if p == ICMP {
		return false
	}
	for _, s := range r.ports {
		if s != (span{}) && s.low <= port && port <= s.high {
			return true
		}
	}
	return false
}

// named tells whether the rule has a name, and is for the canonical name n.
func (r *Rule) named(n string) bool {
	switch r.target {
	case exact:
		return n == r.name
	case below:
		return len(n) > len(r.name)+1 && strings.HasSuffix(n, r.name) && n[len(n)-len(r.name)-1] == '.'
	default:
		return false
	}
}

// byName tells whether the rule is for names.
func (r *Rule) byName() bool { return r.target == exact || r.target == below }

// single tells whether the rule is for one address.
func (r *Rule) single() bool { return r.target == prefix && r.prefix.IsSingleIP() }

// within tells whether the rule is for addresses that all lie in p.
func (r *Rule) within(p netip.Prefix) bool {
	return r.target == prefix && r.prefix.Bits() >= p.Bits() && p.Contains(r.prefix.Addr())
}
