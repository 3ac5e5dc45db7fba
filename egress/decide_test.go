package egress

import (
	"net/netip"
	"strings"
	"testing"
)

// rules makes the rules of a list that is separated by spaces.
func rules(t testing.TB, s string) (rs []Rule) {
	t.Helper()
	for f := range strings.FieldsSeq(s) {
		r, err := Parse(f)
		if err != nil {
			t.Fatal(err)
		}
		rs = append(rs, r)
	}
	return rs
}

// to makes a flow from "tcp 192.0.2.1:443 name,name host".
func to(t testing.TB, s string) Flow {
	t.Helper()
	f := strings.Fields(s)
	flow := Flow{Proto: Proto(f[0]), Dst: netip.MustParseAddrPort(f[1])}
	if len(f) > 2 && f[2] != "-" {
		flow.Names = strings.Split(f[2], ",")
	}
	if len(f) > 3 {
		flow.Host = f[3]
	}
	return flow
}

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name        string
		mode        Mode
		allow, deny string
		flow        string
		want        Verdict
	}{
		{"public", Enabled, "", "", "tcp 192.0.2.1:443", allow(ByDefault)},
		{"public IPv6", "", "", "", "udp [2001:db8::1]:123", allow(ByDefault)},
		{"ping", "", "", "", "icmp 192.0.2.1:0", allow(ByDefault)},
		{"disabled", Disabled, "", "", "tcp 192.0.2.1:443", deny(BuiltIn, ReasonDisabled)},
		{"unknown mode", "open", "", "", "tcp 192.0.2.1:443", deny(BuiltIn, ReasonDisabled)},
		{"unknown protocol", "", "*", "", "sctp 192.0.2.1:443", deny(BuiltIn, ReasonNotAllowed)},

		{"loopback", "", "", "", "tcp 127.0.0.1:80", deny(BuiltIn, ReasonLoopback)},
		{"this host", "", "", "", "tcp 0.0.0.0:80", deny(BuiltIn, ReasonLoopback)},
		{"loopback IPv6", "", "", "", "tcp [::1]:80", deny(BuiltIn, ReasonLoopback)},
		{"10", "", "", "", "tcp 10.1.2.3:80", deny(BuiltIn, ReasonPrivate)},
		{"172.16", "", "", "", "udp 172.31.255.255:80", deny(BuiltIn, ReasonPrivate)},
		{"beside 172.16", "", "", "", "udp 172.32.0.0:80", allow(ByDefault)},
		{"192.168", "", "", "", "icmp 192.168.0.1:0", deny(BuiltIn, ReasonPrivate)},
		{"CGNAT", "", "", "", "tcp 100.127.0.1:80", deny(BuiltIn, ReasonPrivate)},
		{"ULA", "", "", "", "tcp [fd12::1]:80", deny(BuiltIn, ReasonPrivate)},
		{"metadata", "", "", "", "tcp 169.254.169.254:80", deny(BuiltIn, ReasonMetadata)},
		{"metadata of Alibaba", "", "", "", "tcp 100.100.100.200:80", deny(BuiltIn, ReasonMetadata)},
		{"metadata of Azure", "", "", "", "tcp 168.63.129.16:80", deny(BuiltIn, ReasonMetadata)},
		{"metadata IPv6", "", "", "", "tcp [fd00:ec2::254]:80", deny(BuiltIn, ReasonMetadata)},
		{"link-local IPv6", "", "", "", "tcp [fe80::1]:80", deny(BuiltIn, ReasonMetadata)},
		{"multicast", "", "", "", "udp 224.0.0.251:5353", deny(BuiltIn, ReasonMulticast)},
		{"broadcast", "", "", "", "udp 255.255.255.255:67", deny(BuiltIn, ReasonMulticast)},
		{"multicast IPv6", "", "", "", "udp [ff02::1]:80", deny(BuiltIn, ReasonMulticast)},
		{"class E", "", "", "", "tcp 240.0.0.1:80", deny(BuiltIn, ReasonReserved)},

		{"mapped", "", "", "", "tcp [::ffff:10.0.0.1]:80", deny(BuiltIn, ReasonPrivate)},
		{"mapped public", "", "", "", "tcp [::ffff:192.0.2.1]:80", allow(ByDefault)},
		{"compatible", "", "", "", "tcp [::169.254.169.254]:80", deny(BuiltIn, ReasonMetadata)},
		{"translated", "", "", "", "tcp [::ffff:0:169.254.169.254]:80", deny(BuiltIn, ReasonMetadata)},
		{"NAT64", "", "", "", "tcp [64:ff9b::169.254.169.254]:80", deny(BuiltIn, ReasonMetadata)},
		{"NAT64 public", "", "", "", "tcp [64:ff9b::192.0.2.1]:80", allow(ByDefault)},
		{"NAT64 of a site", "", "", "", "tcp [64:ff9b:1::192.0.2.1]:80", deny(BuiltIn, ReasonPrivate)},
		{"6to4", "", "", "", "tcp [2002:a9fe:a9fe::1]:80", deny(BuiltIn, ReasonMetadata)},
		{"Teredo client", "", "", "", "tcp [2001:0:c000:201::5601:5601]:80", deny(BuiltIn, ReasonMetadata)},
		{"Teredo server", "", "", "", "tcp [2001:0:a00:1::3fff:fdfe]:80", deny(BuiltIn, ReasonPrivate)},
		{"ISATAP", "", "", "", "tcp [2001:db8::200:5efe:10.0.0.1]:80", deny(BuiltIn, ReasonPrivate)},

		{"opened by address", "", "10.0.0.5:5432", "", "tcp 10.0.0.5:5432", allow("10.0.0.5:5432")},
		{"another port", "", "10.0.0.5:5432", "", "tcp 10.0.0.5:22", deny(BuiltIn, ReasonPrivate)},
		{"opened by prefix", AllowList, "10.0.0.0/8", "", "udp 10.9.9.9:99", allow("10.0.0.0/8")},
		{"opened, mapped", "", "10.0.0.5", "", "tcp [::ffff:10.0.0.5]:80", allow("10.0.0.5")},
		{"opened, NAT64", "", "10.0.0.5", "", "tcp [64:ff9b::10.0.0.5]:80", allow("10.0.0.5")},
		{"opened, written mapped", "", "[::ffff:10.0.0.0/104]:80", "", "tcp 10.0.0.5:80", allow("[::ffff:10.0.0.0/104]:80")},
		{"half of Teredo", "", "10.0.0.1", "", "tcp [2001:0:a00:1::5601:5601]:80", deny(BuiltIn, ReasonMetadata)},
		{"both halves of Teredo", "", "10.0.0.1 169.254.169.254", "", "tcp [2001:0:a00:1::5601:5601]:80", allow("169.254.169.254")},
		{"a wide prefix opens nothing private", "", "0.0.0.0/0 ::/0", "", "tcp 10.0.0.5:80", deny(BuiltIn, ReasonPrivate)},
		{"nor does a star", "", "*", "", "tcp 10.0.0.5:80", deny(BuiltIn, ReasonPrivate)},
		{"nor does a name", "", "db.example.com", "", "tcp 10.0.0.5:80 db.example.com", deny(BuiltIn, ReasonPrivate)},
		{"a block opened does not open one in it", "", "100.64.0.0/10", "", "tcp 100.100.100.200:80", deny(BuiltIn, ReasonMetadata)},
		{"metadata opened", "", "169.254.169.254:80", "", "tcp 169.254.169.254:80", allow("169.254.169.254:80")},
		{"denied though opened", "", "10.0.0.0/8", "10.0.0.5", "tcp 10.0.0.5:80", deny("10.0.0.5", ReasonRule)},
		{"denied in another form", "", "", "192.0.2.0/24", "tcp [64:ff9b::192.0.2.1]:80", deny("192.0.2.0/24", ReasonRule)},
		{"denied port", "", "", "tcp:*:25", "tcp 192.0.2.1:25", deny("tcp:*:25", ReasonRule)},
		{"denied port of another protocol", "", "", "tcp:*:25", "udp 192.0.2.1:25", allow(ByDefault)},
		{"denied protocol", "", "", "icmp:*", "icmp 192.0.2.1:0", deny("icmp:*", ReasonRule)},

		{"DNS elsewhere", "", "", "", "udp 192.0.2.53:53", deny(BuiltIn, ReasonDNS)},
		{"DNS over TCP", "", "", "", "tcp 192.0.2.53:53", deny(BuiltIn, ReasonDNS)},
		{"DNS over TLS", "", "", "", "tcp [2001:db8::53]:853", deny(BuiltIn, ReasonDNS)},
		{"DNS through a star", AllowList, "* *:53", "", "udp 192.0.2.53:53", deny(BuiltIn, ReasonDNS)},
		{"DNS through a name", AllowList, "udp:ns.example.com:53", "", "udp 192.0.2.53:53 ns.example.com", deny(BuiltIn, ReasonDNS)},
		{"DNS through a prefix", "", "192.0.2.0/24", "", "udp 192.0.2.53:53", deny(BuiltIn, ReasonDNS)},
		{"DNS opened by address", "", "192.0.2.53", "", "udp 192.0.2.53:53", allow("192.0.2.53")},
		{"DNS opened by prefix and port", "", "192.0.2.0/24:53", "", "udp 192.0.2.53:53", allow("192.0.2.0/24:53")},
		{"DNS opened by two halves", "", "10.0.0.0/8 0.0.0.0/0:53", "", "udp 10.0.0.53:53", deny(BuiltIn, ReasonPrivate)},
		{"ping of a resolver", "", "", "", "icmp 192.0.2.53:0", allow(ByDefault)},

		{"list: nothing", AllowList, "", "", "tcp 192.0.2.1:443 a.test", deny(ByDefault, ReasonNotAllowed)},
		{"list: address", AllowList, "192.0.2.1:443", "", "tcp 192.0.2.1:443", allow("192.0.2.1:443")},
		{"list: star", AllowList, "*:443", "", "tcp 192.0.2.1:443", allow("*:443")},
		{"list: name", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test", Verdict{Action: Sniff, Rule: "a.test"}},
		{"list: name, said", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test a.test", allow("a.test")},
		{"list: name in other letters", AllowList, "A.Test.", "", "tcp 192.0.2.1:443 a.TEST a.test.", allow("A.Test.")},
		{"list: another name said", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test b.test", deny("a.test", ReasonName)},
		{"list: an allowed name that was not looked up", AllowList, "a.test b.test", "", "tcp 192.0.2.1:443 a.test b.test", deny("a.test", ReasonName)},
		{"list: two names", AllowList, "a.test b.test", "", "tcp 192.0.2.1:443 a.test,b.test b.test", allow("b.test")},
		{"list: a name that is no more allowed", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test,b.test b.test", deny(ByDefault, ReasonNotAllowed)},
		{"list: address said", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test 192.0.2.1", deny("a.test", ReasonName)},
		{"list: address not looked up", AllowList, "a.test", "", "tcp 192.0.2.1:443", deny(ByDefault, ReasonNotAllowed)},
		{"list: no name at all", AllowList, "a.test", "", "tcp 192.0.2.1:443 a.test a.test\x00.b.test", deny(BuiltIn, ReasonBadName)},
		{"list: other port", AllowList, "a.test:443", "", "tcp 192.0.2.1:80 a.test", deny(ByDefault, ReasonNotAllowed)},
		{"list: below", AllowList, "*.test", "", "tcp 192.0.2.1:80 x.y.test x.y.test", allow("*.test")},
		{"list: below is not the name itself", AllowList, "*.a.test", "", "tcp 192.0.2.1:80 a.test", deny(ByDefault, ReasonNotAllowed)},
		{"list: suffix is not substring", AllowList, "*.example.com", "", "tcp 192.0.2.1:80 evilexample.com", deny(ByDefault, ReasonNotAllowed)},
		{"list: prefix is not it either", AllowList, "example.com", "", "tcp 192.0.2.1:80 example.com.evil.com", deny(ByDefault, ReasonNotAllowed)},
		{"list: UDP by name", AllowList, "a.test", "", "udp 192.0.2.1:443 a.test", deny(ByDefault, ReasonUDP)},
		{"list: UDP that says so", AllowList, "udp:a.test:443", "", "udp 192.0.2.1:443 a.test", allow("udp:a.test:443")},
		{"list: UDP by address", AllowList, "192.0.2.1", "", "udp 192.0.2.1:443 a.test", allow("192.0.2.1")},
		{"list: ping by name", AllowList, "a.test", "", "icmp 192.0.2.1:0 a.test", allow("a.test")},
		{"list: ping by name with ports", AllowList, "a.test:443", "", "icmp 192.0.2.1:0 a.test", deny(ByDefault, ReasonNotAllowed)},

		{"names denied: unknown host", "", "", "*.evil.test", "tcp 192.0.2.1:443", Verdict{Action: Sniff, Rule: ByDefault}},
		{"names denied: another host", "", "", "*.evil.test", "tcp 192.0.2.1:443 - good.test", allow(ByDefault)},
		{"names denied: that host", "", "", "*.evil.test", "tcp 192.0.2.1:443 - x.Evil.test", deny("*.evil.test", ReasonRule)},
		{"names denied: by address in words", "", "", "*.evil.test", "tcp 192.0.2.1:80 - 192.0.2.1", allow(ByDefault)},
		{"names denied: another address in words", "", "", "*.evil.test", "tcp 192.0.2.1:80 - 192.0.2.2", deny(BuiltIn, ReasonName)},
		{"names denied: looked up", "", "", "*.evil.test", "tcp 192.0.2.1:22 x.evil.test", deny("*.evil.test", ReasonRule)},
		{"names denied: looked up with others", "", "", "*.evil.test", "tcp 192.0.2.1:443 x.evil.test,a.test", Verdict{Action: Sniff, Rule: ByDefault}},
		{"names denied: UDP with others", "", "", "*.evil.test", "udp 192.0.2.1:99 x.evil.test,a.test", deny("*.evil.test", ReasonRule)},
		{"names denied: through a star", AllowList, "*", "evil.test", "tcp 192.0.2.1:443", Verdict{Action: Sniff, Rule: "*"}},
		{"names denied: through an address", AllowList, "* 192.0.2.1", "evil.test", "tcp 192.0.2.1:443", allow("192.0.2.1")},
		{"names denied: QUIC", "", "", "evil.test", "udp 192.0.2.1:443 a.test", deny("evil.test", ReasonQUIC)},
		{"names denied: QUIC that is allowed", "", "udp:a.test:443", "evil.test", "udp 192.0.2.1:443 a.test", allow("udp:a.test:443")},
		{"names denied: UDP", "", "", "evil.test", "udp 192.0.2.1:99", deny("evil.test", ReasonNoName)},
		{"names denied: UDP looked up", "", "", "evil.test", "udp 192.0.2.1:99 a.test", allow(ByDefault)},
		{"names denied: ping", "", "", "evil.test", "icmp 192.0.2.1:0", deny("evil.test", ReasonNoName)},
		{"names denied for TCP: UDP", "", "", "tcp:evil.test", "udp 192.0.2.1:443", allow(ByDefault)},
		{"names denied on a port: another", "", "", "evil.test:25", "tcp 192.0.2.1:443 evil.test", allow(ByDefault)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := Policy{tt.mode, rules(t, tt.allow), rules(t, tt.deny)}
			if got := p.Decide(to(t, tt.flow)); got != tt.want {
				t.Errorf("allow %q, deny %q: %s: got %v, want %v", tt.allow, tt.deny, tt.flow, got, tt.want)
			}
		})
	}
}

func TestDecideHost(t *testing.T) {
	own := Flow{Proto: TCP, Dst: netip.MustParseAddrPort("203.0.113.9:22"), Local: true}
	nat64 := Flow{Proto: TCP, Dst: netip.MustParseAddrPort("[64:ff9b::203.0.113.9]:22"), Local: true}
	lan := Flow{Proto: TCP, Dst: netip.MustParseAddrPort("10.0.0.9:22"), Local: true}
	loop := Flow{Proto: TCP, Dst: netip.MustParseAddrPort("127.0.0.1:22"), Local: true}
	alias := Flow{Proto: TCP, Dst: netip.MustParseAddrPort("192.168.127.254:8080"), Alias: true, Names: []string{HostAlias}}
	resolver := Flow{Proto: UDP, Dst: netip.MustParseAddrPort("192.168.127.254:53"), Alias: true}
	for _, tt := range []struct {
		allow, deny string
		flow        Flow
		want        Verdict
	}{
		{"", "", own, deny(BuiltIn, ReasonHost)},
		{"* 203.0.113.0/24", "", own, deny(BuiltIn, ReasonHost)},
		{"203.0.113.9", "", own, allow("203.0.113.9")},
		{"", "", nat64, deny(BuiltIn, ReasonHost)},
		{"203.0.113.9", "", nat64, allow("203.0.113.9")},
		{"10.0.0.0/8", "", lan, deny(BuiltIn, ReasonHost)},
		{"10.0.0.0/8 10.0.0.9:22", "", lan, allow("10.0.0.9:22")},
		{"", "", lan, deny(BuiltIn, ReasonPrivate)},
		{"*", "", loop, deny(BuiltIn, ReasonLoopback)},
		{"127.0.0.0/8", "", loop, allow("127.0.0.0/8")},
		{"* *.boxlite.internal *.internal 192.168.0.0/16 192.168.127.254", "", alias, deny(BuiltIn, ReasonAlias)},
		{HostAlias, "", alias, allow(HostAlias)},
		{HostAlias + ":8080", "", alias, allow(HostAlias + ":8080")},
		{HostAlias + ":80", "", alias, deny(BuiltIn, ReasonAlias)},
		{HostAlias, "*.internal", alias, deny("*.internal", ReasonRule)},
		{HostAlias, "192.168.127.254", alias, deny("192.168.127.254", ReasonRule)},
		{HostAlias, "", resolver, deny(BuiltIn, ReasonAlias)},
		{HostAlias + ":53", "", resolver, allow(HostAlias + ":53")},
	} {
		for _, mode := range []Mode{Enabled, AllowList} {
			p := Policy{mode, rules(t, tt.allow), rules(t, tt.deny)}
			if got := p.Decide(tt.flow); got != tt.want {
				t.Errorf("%s, allow %q, deny %q: %v: got %v, want %v", mode, tt.allow, tt.deny, tt.flow.Dst, got, tt.want)
			}
		}
	}
}

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		mode        Mode
		allow, deny string
		name        string
		want        Verdict
	}{
		{Enabled, "", "", "Example.com.", allow(ByDefault)},
		{Disabled, "", "", "example.com", deny(BuiltIn, ReasonDisabled)},
		{Enabled, "", "", "a..b", deny(BuiltIn, ReasonBadName)},
		{Enabled, "", "", "2852039166", deny(BuiltIn, ReasonBadName)},
		{AllowList, "", "", "example.com", deny(ByDefault, ReasonNotAllowed)},
		{AllowList, "192.0.2.0/24", "", "example.com", deny(ByDefault, ReasonNotAllowed)},
		{AllowList, "tcp:example.com:443", "", "example.com", allow("tcp:example.com:443")},
		{AllowList, "*.example.com", "", "a.b.example.com", allow("*.example.com")},
		{AllowList, "*.example.com", "", "example.com", deny(ByDefault, ReasonNotAllowed)},
		{AllowList, "allowed.example.com", "", "allowed.example.com.evil.com", deny(ByDefault, ReasonNotAllowed)},
		{AllowList, "*", "", "example.com", allow("*")},
		{AllowList, "*", "example.com", "example.com", deny("example.com", ReasonRule)},
		{Enabled, "", "*.example.com", "a.example.com", deny("*.example.com", ReasonRule)},
		{Enabled, "", "example.com:25", "example.com", allow(ByDefault)},
		{Enabled, "", "*", "example.com", deny("*", ReasonRule)},
		{Enabled, "", "*:25", "example.com", allow(ByDefault)},
		{Enabled, "* *.internal", "", HostAlias, deny(BuiltIn, ReasonAlias)},
		{AllowList, HostAlias + ":80", "", HostAlias, allow(HostAlias + ":80")},
	} {
		p := Policy{tt.mode, rules(t, tt.allow), rules(t, tt.deny)}
		if got := p.Lookup(tt.name); got != tt.want {
			t.Errorf("%s, allow %q, deny %q: Lookup(%q) = %v, want %v", tt.mode, tt.allow, tt.deny, tt.name, got, tt.want)
		}
	}
}

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		mode        Mode
		allow, deny string
		name, addr  string
		local       bool
		want        Verdict
	}{
		{Enabled, "", "", "a.test", "192.0.2.1", false, allow(ByDefault)},
		{Enabled, "", "", "a.test", "10.0.0.1", false, deny(BuiltIn, ReasonPrivate)},
		{AllowList, "a.test", "", "a.test", "169.254.169.254", false, deny(BuiltIn, ReasonMetadata)},
		{AllowList, "a.test", "", "a.test", "64:ff9b::7f00:1", false, deny(BuiltIn, ReasonLoopback)},
		{AllowList, "a.test", "", "a.test", "192.0.2.1", false, allow("a.test")},
		{AllowList, "a.test", "", "a.test", "192.0.2.1", true, deny(BuiltIn, ReasonHost)},
		{AllowList, "a.test", "", "b.test", "192.0.2.1", false, deny(ByDefault, ReasonNotAllowed)},
		{AllowList, "a.test 10.0.0.0/8:443", "", "a.test", "10.0.0.1", false, allow("10.0.0.0/8:443")},
		{AllowList, "a.test 10.0.0.0/8", "", "a.test", "10.0.0.1", true, deny(BuiltIn, ReasonHost)},
		{AllowList, "a.test 10.0.0.1", "", "a.test", "10.0.0.1", true, allow("10.0.0.1")},
		{AllowList, "a.test", "192.0.2.0/24", "a.test", "192.0.2.1", false, deny("192.0.2.0/24", ReasonRule)},
		{AllowList, "a.test", "192.0.2.0/24:25", "a.test", "192.0.2.1", false, allow("a.test")},
		{Enabled, HostAlias, "", HostAlias, "192.168.127.254", false, allow(HostAlias)},
	} {
		p := Policy{tt.mode, rules(t, tt.allow), rules(t, tt.deny)}
		if got := p.Answer(tt.name, netip.MustParseAddr(tt.addr), tt.local); got != tt.want {
			t.Errorf("%s, allow %q, deny %q: Answer(%q, %s) = %v, want %v", tt.mode, tt.allow, tt.deny, tt.name, tt.addr, got, tt.want)
		}
	}
	if got, want := (&Policy{}).Answer("a.test", netip.Addr{}, false), deny(BuiltIn, ReasonReserved); got != want {
		t.Errorf("no address: got %v, want %v", got, want)
	}
}
