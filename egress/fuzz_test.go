package egress

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"example.com", "tcp:*.example.com:80,443,8000-8100", "[2001:db8::/32]:443", "::ffff:10.0.0.0/104", "icmp:*",
		"tcp:443", "a.*.b", "[::1", "10.0.0.1/8", "bücher.example:1", "fe80::1%eth0", "64:ff9b::/96:53",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			if r != (Rule{}) {
				t.Errorf("%q: got a rule with error %v", s, err)
			}
			return
		}
		if err := (&Policy{Allow: []Rule{r}}).Check(); err != nil {
			t.Errorf("%q: parsed, but Check says %v", s, err)
		}
		if again, err := Parse(r.String()); err != nil || again != r {
			t.Errorf("%q: read again: got %v, %v", s, again, err)
		}
		if r.byName() {
			if n, err := Name(r.name); err != nil || n != r.name {
				t.Errorf("%q: its name %q is not canonical: %q, %v", s, r.name, n, err)
			}
		}
		if r.target == prefix && (r.prefix != r.prefix.Masked() || r.prefix.Addr().Is4In6()) {
			t.Errorf("%q: prefix %v is not in one form", s, r.prefix)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{
		"example.com", "EXAMPLE.com.", "bücher.example", "xn--bcher-kva", "ｅ。com。", "a\x00.b", "xn--", "0x7f.1",
		"١٢٣.example", "a\u200d.b", "straße", "xn--strae-oqa", "ſ.example", "K.example", "․", "a.xn--p1ai",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := Name(s)
		if err != nil {
			if n != "" {
				t.Errorf("%q: got %q with error %v", s, n, err)
			}
			return
		}
		if again, err := Name(n); err != nil || again != n {
			t.Errorf("%q is %q, and that is %q, %v", s, n, again, err)
		}
		if strings.Trim(n, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || len(n) > maxName {
			t.Errorf("%q: got %q", s, n)
		}
		if _, err := netip.ParseAddr(n); err == nil {
			t.Errorf("%q: got the address %s", s, n)
		}
		for _, same := range []string{strings.ToUpper(n), n + "."} {
			if got, err := Name(same); err != nil || got != n {
				t.Errorf("%q: got %q, %v, want %q", same, got, err, n)
			}
		}
	})
}

// FuzzDecide checks what must hold for any policy and any flow.
func FuzzDecide(f *testing.F) {
	ip := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	f.Add("allowlist", "*.example.com:443", "", "tcp", ip("192.0.2.1"), uint16(443), "api.example.com", "api.example.com", false)
	f.Add("", "10.0.0.0/8 *", "10.0.0.1", "udp", ip("::ffff:10.0.0.1"), uint16(53), "", "", true)
	f.Add("enabled", "169.254.169.254", "*.evil.test", "tcp", ip("2002:a9fe:a9fe::"), uint16(80), "a.test,b.evil.test", "a.test", false)
	f.Add("allowlist", "udp:a.test:443 ::/0", "a.test:25", "udp", ip("2001:0:a00:1::5601:5601"), uint16(443), "a.test", "", false)
	f.Fuzz(func(t *testing.T, mode, allowed, denied, proto string, addr []byte, port uint16, names, host string, local bool) {
		a, ok := netip.AddrFromSlice(addr)
		if !ok {
			return
		}
		p := &Policy{Mode(mode), readable(allowed), readable(denied)}
		flow := Flow{Proto: Proto(proto), Dst: netip.AddrPortFrom(a, port), Host: host, Local: local}
		if names != "" {
			flow.Names = strings.Split(names, ",")
		}
		got := p.Decide(flow)
		sound(t, p, flow, got)

		other := flow
		other.Names = slices.Clone(flow.Names)
		for i, n := range other.Names {
			other.Names[i] = respell(n)
		}
		other.Host = respell(host)
		if v := p.Decide(other); v != got {
			t.Errorf("%v is %v, but %v is %v", flow, got, other, v)
		}

		p.Deny = append(p.Deny, MustParse("*.test"), MustParse("tcp:192.0.2.0/24"))
		if v := p.Decide(flow); got.Action == Deny && v.Action != Deny {
			t.Errorf("%v is %v, but %v with more deny rules", flow, got, v)
		}
	})
}

// sound checks a verdict against the promises of the package, which it reads off
// the rules in its own way.
func sound(t *testing.T, p *Policy, f Flow, v Verdict) {
	t.Helper()
	if (v.Action == Deny) != (v.Reason != "") || v.Rule == "" {
		t.Errorf("%v: verdict %+v is not whole", f, v)
	}
	if v.Action == Sniff && (f.Host != "" || f.Proto != TCP) {
		t.Errorf("%v: got %v, though nothing is to come", f, v)
	}
	if v.Action == Deny {
		return
	}
	if m := p.mode(); m != Enabled && m != AllowList {
		t.Errorf("%v: got %v in mode %q", f, v, m)
	}
	if p.mode() == AllowList && !slices.ContainsFunc(p.Allow, func(r Rule) bool { return r.text == v.Rule }) {
		t.Errorf("%v: got %v, which is no allow rule", f, v)
	}
	for _, a := range Forms(f.Dst.Addr()) {
		b, in := refusing(a)
		if in && !slices.ContainsFunc(p.Allow, func(r Rule) bool {
			return r.prefix.Contains(a) && b.prefix.Overlaps(r.prefix) && r.prefix.Bits() >= b.prefix.Bits()
		}) {
			t.Errorf("%v: got %v, though %s is a %s", f, v, a, b.reason)
		}
		if slices.ContainsFunc(p.Deny, func(r Rule) bool { return r.prefix.Contains(a) && r.covers(f.Proto, f.Dst.Port()) }) {
			t.Errorf("%v: got %v, though a rule denies %s", f, v, a)
		}
	}
	if n, err := Name(f.Host); err == nil && slices.ContainsFunc(p.Deny, func(r Rule) bool { return r.named(n) && r.covers(f.Proto, f.Dst.Port()) }) {
		t.Errorf("%v: got %v, though a rule denies %s", f, v, n)
	}
}

// readable returns those words of s that are rules.
func readable(s string) (rs []Rule) {
	for w := range strings.FieldsSeq(s) {
		if r, err := Parse(w); err == nil && len(rs) < 16 {
			rs = append(rs, r)
		}
	}
	return rs
}

// respell writes a name in another way, and leaves alone what is none.
func respell(n string) string {
	c, err := Name(n)
	if err != nil {
		return n
	}
	if c == n {
		return strings.ToUpper(n) + "."
	}
	return c
}
