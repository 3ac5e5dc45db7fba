package vnet

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

const (
	value       = `sk-"real"/value+123`
	placeholder = "<BOXLITE_SECRET:key>"
)

func key(hosts ...string) Secret {
	return Secret{Name: "key", Value: value, Placeholder: placeholder, Hosts: hosts}
}

// TestSecretsAreChecked promises that a secret which could not be kept, or would
// be put anywhere, is refused, and that the reason does not tell it.
func TestSecretsAreChecked(t *testing.T) {
	with := func(change func(*Secret)) Secret {
		s := key("api.test")
		change(&s)
		return s
	}
	for _, tt := range []struct {
		name    string
		secrets []Secret
		want    string // in the error; empty: none
	}{
		{"good", []Secret{key("api.test", "*.wild.test")}, ""},
		{"no value", []Secret{with(func(s *Secret) { s.Value = "" })}, "no value"},
		{"a short value", []Secret{with(func(s *Secret) { s.Value = "1234567" })}, "shorter than 8"},
		{"a long value", []Secret{with(func(s *Secret) { s.Value = strings.Repeat("x", 9000) })}, "longer than 8192"},
		{"a short placeholder", []Secret{with(func(s *Secret) { s.Placeholder = "x" })}, "placeholder is shorter"},
		{"the value for a placeholder", []Secret{with(func(s *Secret) { s.Placeholder = s.Value })}, "has the value in it"},
		{"no hosts", []Secret{key()}, "0 hosts"},
		{"all hosts", []Secret{key("*")}, "not a host name"},
		{"an address", []Secret{key("192.0.2.1")}, "not a host name"},
		{"the same placeholder", []Secret{key("a.test"), key("b.test")}, "part of the other"},
		{"too many", make([]Secret, maxSecrets+1), "at most 64"},
	} {
		_, err := checkSecrets(tt.secrets)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if !errors.Is(err, ErrSecret) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), value) {
			t.Errorf("%s: got %v, want one about %q without the value", tt.name, err, tt.want)
		}
	}
}

// TestSecretHosts promises that a secret is for its hosts and no others.
func TestSecretHosts(t *testing.T) {
	s, err := checkSecret(key("API.test.", "*.wild.test"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"api.test": true, "x.api.test": false, "evilapi.test": false, "api.test.evil": false,
		"wild.test": false, "a.wild.test": true, "a.b.wild.test": true, "evilwild.test": false,
	} {
		if got := s.isFor(name); got != want {
			t.Errorf("%s: got %t, want %t", name, got, want)
		}
	}
}

// TestReach promises that the host of a secret needs no rule, and nothing more is
// opened.
func TestReach(t *testing.T) {
	secrets, err := checkSecrets([]Secret{key("api.test", "*.wild.test", egress.HostAlias)})
	if err != nil {
		t.Fatal(err)
	}
	given := policy(egress.AllowList, "other.test")
	p := reach(given, secrets)
	for _, tt := range []struct {
		name string
		port uint16
		want egress.Action
	}{
		{"api.test", 443, egress.Sniff},
		{"a.wild.test", 443, egress.Sniff},
		{"wild.test", 443, egress.Deny},
		{"api.test", 80, egress.Deny},
		{"other.test", 80, egress.Sniff},
	} {
		f := egress.Flow{Proto: egress.TCP, Dst: netip.AddrPortFrom(public, tt.port), Names: []string{tt.name}}
		if got := p.Decide(f).Action; got != tt.want {
			t.Errorf("%s:%d: got %s, want %s", tt.name, tt.port, got, tt.want)
		}
	}
	if v := p.Lookup(egress.HostAlias); v.Action != egress.Deny {
		t.Errorf("the host: got %s, want a secret not to open it", v)
	}
	p.Deny = append(p.Deny, egress.MustParse("api.test"))
	if p.Lookup("api.test").Action != egress.Deny || len(given.Allow) != 1 {
		t.Error("a deny rule is stronger, and the policy that was given stays as it is")
	}
	if open := reach(egress.Policy{}, secrets); len(open.Allow) > 0 {
		t.Errorf("rules where the internet is allowed: %v", open.Allow)
	}
}

// TestFill promises in which places of a request a placeholder counts, and that
// the value is written as the place demands.
func TestFill(t *testing.T) {
	s, err := checkSecret(key("api.test"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, content, in, want string }{
		{"text", "text/plain; charset=utf-8", "a " + placeholder, "a " + value},
		{"JSON", "application/json", `{"k":"` + placeholder + `"}`, `{"k":"sk-\"real\"/value+123"}`},
		{"JSON for HTML", "application/vnd.api+json", `{"k":"\u003cBOXLITE_SECRET:key\u003e"}`, `{"k":"sk-\"real\"/value+123"}`},
		{"a form", "application/x-www-form-urlencoded", "a=%20&k=%3CBOXLITE_SECRET%3akey%3E&%zz", "a=%20&k=sk-%22real%22%2Fvalue%2B123&%zz"},
		{"XML", "text/xml", "<k>&lt;BOXLITE_SECRET:key&gt;</k>", "<k>sk-&#34;real&#34;/value+123</k>"},
		{"bytes", "application/octet-stream", placeholder, placeholder},
		{"nothing said", "", placeholder, placeholder},
	} {
		x := &exchange{secrets: []*secret{&s}}
		if got := string(x.fillBody([]byte(tt.in), tt.content)); got != tt.want || (len(x.used) == 1) != (tt.in != tt.want) {
			t.Errorf("%s: got %q and uses %q, want %q", tt.name, got, x.used, tt.want)
		}
	}

	x := &exchange{secrets: []*secret{&s}}
	h := http.Header{"Authorization": {"Bearer " + placeholder}, "X-Two": {"a", placeholder + placeholder}}
	basic := request(t, http.MethodGet, "http://api.test", "")
	basic.SetBasicAuth("user", placeholder)
	h["X-Basic"] = basic.Header["Authorization"]
	x.fillHeader(h)
	basic.Header["Authorization"] = h["X-Basic"]
	if _, password, _ := basic.BasicAuth(); password != value || h.Get("Authorization") != "Bearer "+value || h["X-Two"][1] != value+value {
		t.Errorf("headers: got %q", h)
	}
	scrubHeader(h, x.scrubs())
	basic.Header["Authorization"] = h["X-Basic"]
	if _, password, _ := basic.BasicAuth(); password != placeholder || h.Get("Authorization") != "Bearer "+placeholder {
		t.Errorf("headers, scrubbed: got %q", h)
	}
}
