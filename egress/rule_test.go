package egress

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, tt := range []struct{ rule, want string }{ // want is part of the error, or empty
		{"example.com", ""},
		{"EXAMPLE.com.", ""},
		{"tcp:example.com:443", ""},
		{"UDP:*.example.com:80,443,8000-8100", ""},
		{"icmp:*", ""},
		{"*:53", ""},
		{"bücher.example", ""},
		{"_srv._tcp.example.com", ""},
		{"192.0.2.1", ""},
		{"192.0.2.0/24:8000", ""},
		{"2001:db8::1", ""},
		{"tcp:2001:db8::/32", ""},
		{"[2001:db8::1]:443", ""},
		{"udp:[2001:db8::/32]:443", ""},
		{"::/0", ""},
		{"tcp", ""}, // a name like any other
		{"tcp:443", "ends in a number"},
		{"", "names no host"},
		{":443", "names no host"},
		{"tcp:", "names no host"},
		{"https://example.com/", "not for a URL"},
		{"example.com/path", "not a prefix"},
		{"example.com:https", `"https" is not a port`},
		{"example.com:0", `"0" is not a port`},
		{"example.com:65536", `"65536" is not a port`},
		{"example.com:+1", `"+1" is not a port`},
		{"example.com:", `"" is not a port`},
		{"example.com:9-1", "the range is empty"},
		{"example.com:1," + strings.Repeat("2,", 15) + "3", "more than 16"},
		{"icmp:example.com:7", "icmp has no ports"},
		{"*example.com", "stands for all in front of a dot"},
		{"a.*.com", "stands for all in front of a dot"},
		{"*.*.com", "stands for all in front of a dot"},
		{"*.", "empty"},
		{"example..com", "an empty part"},
		{"exa mple.com", "the character ' '"},
		{"example.com\x00.evil.com", `the character`},
		{long + ".com", "longer than 63"},
		{strings.Repeat("a.", 300), "longer than 512"},
		{"127.1", "ends in a number"},
		{"0x7f000001", "ends in a number"},
		{"010.0.0.1", "ends in a number"},
		{"10.0.0.1/8", "write 10.0.0.0/8"},
		{"10.0.0.0/33", "not a prefix"},
		{"fe80::1%eth0", "no zones"},
		{"[192.0.2.1]:80", "in brackets stands an IPv6 address"},
		{"[2001:db8::1", "not closed"},
		{"[2001:db8::1]443", "after the bracket"},
		{"2001:db8::zz", "not an address"},
	} {
		r, err := Parse(tt.rule)
		if tt.want == "" {
			if err != nil || r.String() != tt.rule {
				t.Errorf("Parse(%q) = %q, %v, want no error", tt.rule, r, err)
			}
			continue
		}
		if !errors.Is(err, ErrRule) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("Parse(%q): got %v, want ErrRule with %q", tt.rule, err, tt.want)
		}
	}
}

func TestName(t *testing.T) {
	for _, tt := range []struct{ in, want string }{ // an empty want is an error
		{"example.com", "example.com"},
		{"EXAMPLE.COM.", "example.com"},
		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"ｅｘａｍｐｌｅ。com。", "example.com"},
		{"r3---sn.example.com", "r3---sn.example.com"},
		{"_dmarc.example.com", "_dmarc.example.com"},
		{"7.113.0.203.in-addr.arpa", "7.113.0.203.in-addr.arpa"},
		{"straße.example", "xn--strae-oqa.example"},
		{strings.Repeat("a", 63) + ".b", strings.Repeat("a", 63) + ".b"},
		{strings.Repeat("a", 64) + ".b", ""},
		{strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "a"},
		{strings.Repeat("a.", 127) + "a", ""},
		{"", ""},
		{".", ""},
		{"a..", ""},
		{".a", ""},
		{"a\x00b", ""},
		{"a\tb", ""},
		{"a b", ""},
		{"a\u00a0b", ""},
		{"a/b", ""},
		{"a\xffb", ""},
		{"a\u200db.example", ""},
		{"１２７.０.０.１", ""},
		{"127.0.0.1", ""},
		{"2130706433", ""},
		{"0x7f.1", ""},
		{"::1", ""},
		{"xn--a", ""},
		{"xn--", ""},
		{"xn--abc-", ""},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
	} {
		got, err := Name(tt.in)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("Name(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrName) {
			t.Errorf("Name(%q): got %v, want ErrName", tt.in, err)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Name("api.example.com") }); n != 0 {
		t.Errorf("a canonical name: got %v allocations, want 0", n)
	}
}

func TestRulesAreWrittenAsTheyWereRead(t *testing.T) {
	const text = `{"mode":"allowlist","allow":["Tcp:*.Example.com:443","[2001:db8::1]:80"],"deny":["10.0.0.0/8"]}`
	var p Policy
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil || string(b) != text {
		t.Errorf("got %s, %v, want %s", b, err, text)
	}
	if p.Allow[0] != MustParse("Tcp:*.Example.com:443") {
		t.Error("a rule is not equal to itself")
	}
	if err := json.Unmarshal([]byte(`{"allow":["a b"]}`), &p); !errors.Is(err, ErrRule) {
		t.Errorf("got %v, want ErrRule", err)
	}
}

func TestCheck(t *testing.T) {
	many := make([]Rule, maxRules)
	for i := range many {
		many[i] = MustParse("a.test")
	}
	one := many[:1]
	for _, tt := range []struct {
		name   string
		policy Policy
		want   string
	}{
		{"zero", Policy{}, ""},
		{"list", Policy{AllowList, one, one}, ""},
		{"disabled", Policy{Mode: Disabled}, ""},
		{"disabled with rules", Policy{Mode: Disabled, Allow: one}, "leave out the rules"},
		{"unknown", Policy{Mode: "none"}, `mode "none"`},
		{"full", Policy{Allow: many}, ""},
		{"too many", Policy{Allow: many, Deny: one}, "at most 1024"},
		{"an empty rule", Policy{Allow: make([]Rule, 1)}, "a rule is empty"},
	} {
		err := tt.policy.Check()
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
