package escape

import (
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// attack is one way to reach what may not be reached. The same probe must
// succeed when rule is there, so that it is known to be able to.
type attack struct {
	name   string
	probe  netlab.Probe
	reason egress.Reason // empty: what was sent is no question, and not in the log
	about  string        // part of the address or name of the event in the log
	rule   string        // opens it; several are separated by spaces; empty: nothing does
}

// try runs attacks in a box with the policy, and with more rules once more. The
// box stays the same: its policy is changed while it runs.
func try(t *testing.T, policy egress.Policy, attacks []attack) {
	t.Helper()
	lab, rt := netlab.Runtime(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Network: policy})
	var probes []netlab.Probe
	for _, a := range attacks {
		probes = append(probes, a.probe)
	}
	before := lab.Seen(t)
	results := netlab.Attempt(t, b, probes...)
	open := []string{}
	if len(policy.Allow) > 0 { // what is allowed is dialled before its client says a name
		open = append(open, netlab.Allowed4, netlab.Allowed6)
	}
	unseen(t, before, lab.Seen(t), open...)
	refused(t, attacks, results, netlab.Log(t, b))

	var opened []attack
	probes = nil
	for _, a := range attacks {
		if a.rule != "" {
			opened = append(opened, a)
			probes = append(probes, a.probe)
			policy.Allow = append(policy.Allow, netlab.Policy(t, "", strings.Fields(a.rule)...).Allow...)
		}
	}
	if len(opened) == 0 {
		return
	}
	if err := b.SetNetwork(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	for i, r := range netlab.Attempt(t, b, probes...) {
		if a := opened[i]; !r.OK {
			t.Errorf("%s: with rule %q: got %s, want success\n%s", a.name, a.rule, r.Err, netlab.Lines(netlab.Log(t, b)))
		}
	}
}

// refused checks that attacks failed at once, and for the right reasons, which
// the log has in the same order.
func refused(t *testing.T, attacks []attack, rs []netlab.Result, events []egress.Event) {
	t.Helper()
	rest := events
	for i, a := range attacks {
		if r := rs[i]; r.OK || r.Err == "timeout" {
			t.Errorf("%s: got %q %s, want a refusal", a.name, r.Data, r.Err)
		}
		if a.reason == "" {
			continue
		}
		found := slices.IndexFunc(rest, func(e egress.Event) bool {
			return e.Action == egress.Deny && e.Reason == a.reason && (strings.Contains(e.Addr, a.about) || strings.Contains(e.Name, a.about))
		})
		if found < 0 {
			t.Errorf("%s: no event about %s with reason %q; the log is\n%s", a.name, a.about, a.reason, netlab.Lines(events))
			continue
		}
		rest = rest[found+1:]
	}
}

// unseen checks that nothing came to any server but the resolver and the places
// in open, which are parts of addresses.
func unseen(t *testing.T, before, after netlab.Seen, open ...string) {
	t.Helper()
	open = append(open, netlab.Resolver)
	for at, n := range after.Hits {
		if n > before.Hits[at] && !slices.ContainsFunc(open, func(o string) bool { return strings.Contains(at, o) }) {
			t.Errorf("%d connections or datagrams arrived at %s", n-before.Hits[at], at)
		}
	}
}

func web(to string) netlab.Probe { return netlab.Probe{Op: "http", To: to, Port: 80} }

func TestMetadataAddress(t *testing.T) {
	const v4, v4rule = "169.254.169.254:80", "169.254.169.254:80"
	attacks := []attack{}
	for _, spelling := range []string{
		"169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "0xa9.254.0251.0376", "169.16689662",
		"169.254.43518", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
	} {
		attacks = append(attacks, attack{spelling, web(spelling), egress.ReasonMetadata, v4, v4rule})
	}
	for _, other := range []struct{ to, rule string }{
		{"64:ff9b::169.254.169.254", v4rule},
		{"2002:a9fe:a9fe::1", v4rule},
		{"::ffff:0:a9fe:a9fe", v4rule},
		{"2001:0:a9fe:a9fe::5601:5601", v4rule},
		{"fd00:ec2::254", "fd00:ec2::254"},
		{"100.100.100.200", "100.100.100.200"},
		{"168.63.129.16", "168.63.129.16"},
		{"192.0.0.192", "192.0.0.192"},
		{"169.254.170.2", "169.254.170.2"},
	} {
		attacks = append(attacks, attack{other.to, web(other.to), egress.ReasonMetadata, ":80", other.rule})
	}
	try(t, egress.Policy{}, attacks)
}

func TestPrivateAddresses(t *testing.T) {
	var attacks []attack
	for _, a := range []struct {
		to, about, rule string
	}{
		{"10.0.0.1", "10.0.0.1:80", "10.0.0.0/8"},
		{"10.255.255.254", "10.255.255.254:80", "10.0.0.0/8"},
		{"172.16.0.1", "172.16.0.1:80", "172.16.0.1"},
		{"172.31.255.254", "172.31.255.254:80", "tcp:172.31.0.0/16:80"},
		{"192.168.1.1", "192.168.1.1:80", "192.168.1.0/24"},
		{"100.64.0.1", "100.64.0.1:80", "100.64.0.0/10"},
		{"198.18.0.1", "198.18.0.1:80", "198.18.0.1:80"},
		{"::ffff:10.0.0.1", "10.0.0.1:80", "10.0.0.1"},
		{"64:ff9b::10.0.0.1", "[64:ff9b::a00:1]:80", "10.0.0.1"},
		{"64:ff9b:1::1", "[64:ff9b:1::1]:80", "64:ff9b:1::/48"},
		{"2002:a00:1::1", "[2002:a00:1::1]:80", "10.0.0.0/8"},
		{"fd12:3456::1", "[fd12:3456::1]:80", "fd12:3456::/32"},
	} {
		attacks = append(attacks, attack{a.to, web(a.to), egress.ReasonPrivate, a.about, a.rule})
	}
	try(t, egress.Policy{}, attacks)
	// Neither names nor prefixes that are wider than the private ones help.
	for i := range attacks {
		attacks[i].rule = ""
	}
	try(t, netlab.Policy(t, egress.AllowList, "*", "0.0.0.0/0", "::/0", "*:80"), attacks)
}
