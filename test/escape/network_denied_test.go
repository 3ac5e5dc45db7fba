package escape

import (
	"testing"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// TestDeniedNames lets a box that may reach everything public but some names try
// to reach those by their addresses.
func TestDeniedNames(t *testing.T) {
	const to, to6 = netlab.Other4, netlab.Other6
	attacks := []attack{
		{name: "by name", probe: web("other.test"), reason: egress.ReasonRule, about: "other.test"},
		{name: "below it", probe: netlab.Probe{Op: "lookup", To: "allowed.test.other.test"}, reason: egress.ReasonRule, about: "allowed.test.other.test"},
		{name: "Host", probe: netlab.Probe{Op: "http", To: to, Port: 80, Host: "other.test"}, reason: egress.ReasonRule, about: to + ":80"},
		{name: "Host in other letters", probe: netlab.Probe{Op: "http", To: to6, Port: 80, Host: "OTHER.test."}, reason: egress.ReasonRule, about: to6},
		{name: "Host on another port", probe: netlab.Probe{Op: "http", To: to, Port: 8080, Host: "other.test:8080"}, reason: egress.ReasonRule, about: to + ":8080"},
		{name: "SNI", probe: netlab.Probe{Op: "tls", To: to, Port: 443, SNI: "other.test", Host: "other.test"}, reason: egress.ReasonRule, about: to + ":443"},
		{name: "SNI on another port", probe: netlab.Probe{Op: "tls", To: to, Port: 8443, SNI: "other.test", Host: "other.test"}, reason: egress.ReasonRule, about: to + ":8443"},
		{name: "no SNI", probe: netlab.Probe{Op: "tls", To: to, Port: 443, Host: "other.test"}, reason: egress.ReasonNoName, about: to + ":443"},
		{name: "QUIC", probe: netlab.Probe{Op: "udp", To: netlab.Allowed4, Port: 443}, reason: egress.ReasonQUIC, about: netlab.Allowed4 + ":443"},
		{name: "UDP", probe: netlab.Probe{Op: "udp", To: to, Port: 7}, reason: egress.ReasonNoName, about: to + ":7"},
		{name: "ping", probe: netlab.Probe{Op: "ping", To: to}, reason: egress.ReasonNoName, about: to},
	}
	var probes []netlab.Probe
	for _, a := range attacks {
		probes = append(probes, a.probe)
	}
	_, b := box(t, egress.Policy{Deny: []egress.Rule{egress.MustParse("other.test"), egress.MustParse("*.other.test")}})
	results := netlab.Attempt(t, b, probes...)
	refused(t, attacks, results, netlab.Log(t, b))
	// Other hosts are reached, by their addresses too.
	for _, p := range []netlab.Probe{
		web("allowed.test"),
		web(netlab.Allowed4),
		{Op: "tls", To: netlab.Allowed4, Port: 443, SNI: "allowed.test", Host: "allowed.test"},
		{Op: "tcp", To: netlab.Allowed4, Port: 22},
		{Op: "tcp", To: "v6.allowed.test", Port: 7, Say: "echo\n"},
		{Op: "udp", To: "v4.allowed.test", Port: 7},
	} {
		if r := netlab.Attempt(t, b, p)[0]; !r.OK {
			t.Errorf("%s to %s:%d: got %s, want success\n%s", p.Op, p.To, p.Port, r.Err, netlab.Lines(netlab.Log(t, b)))
		}
	}
	if err := b.SetNetwork(t.Context(), egress.Policy{}); err != nil {
		t.Fatal(err)
	}
	for i, r := range netlab.Attempt(t, b, probes...) {
		if !r.OK {
			t.Errorf("%s: without the rules: got %s, want success\n%s", attacks[i].name, r.Err, netlab.Lines(netlab.Log(t, b)))
		}
	}
}
