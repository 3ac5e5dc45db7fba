package escape

import (
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// box makes one for attacks that are not of the form of attack.
func box(t *testing.T, p egress.Policy) (*netlab.Lab, *boxlite.Box) {
	t.Helper()
	lab, rt := netlab.Runtime(t, boxtest.Python)
	return lab, boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Network: p})
}

// alive checks that the network of the box goes on.
func alive(t *testing.T, lab *netlab.Lab, b *boxlite.Box) {
	t.Helper()
	if r := netlab.Attempt(t, b, web(netlab.Allowed4))[0]; !r.OK {
		t.Errorf("after it: got %s, want %s to be reached", r.Err, netlab.Allowed4)
	}
}

func question(labels string) netlab.Probe {
	return netlab.Probe{Op: "dns", Labels: strings.Split(labels, "|")}
}

// TestDirectDNS asks servers that are not the box's own, which would answer.
func TestDirectDNS(t *testing.T) {
	ask := func(to, over string, port int) netlab.Probe {
		return netlab.Probe{Op: "dns", To: to, Over: over, Port: port, Labels: []string{"leak", "test"}}
	}
	attacks := []attack{
		{"UDP", ask(netlab.Rogue4, "udp", 53), egress.ReasonDNS, netlab.Rogue4 + ":53", netlab.Rogue4},
		{"TCP", ask(netlab.Rogue4, "tcp", 53), egress.ReasonDNS, netlab.Rogue4 + ":53", "203.0.113.0/24:53"},
		{"IPv6", ask(netlab.Rogue6, "udp", 53), egress.ReasonDNS, netlab.Rogue6, "[" + netlab.Rogue6 + "]:53"},
		{"UDP 853", ask(netlab.Rogue4, "udp", 853), egress.ReasonDNS, netlab.Rogue4 + ":853", netlab.Rogue4 + ":853"},
		{"TCP 853", ask(netlab.Rogue4, "tcp", 853), egress.ReasonDNS, netlab.Rogue4 + ":853", netlab.Rogue4 + ":853"},
		{"private", ask(netlab.RoguePrivate, "udp", 53), egress.ReasonDNS, netlab.RoguePrivate, "udp:" + netlab.RoguePrivate + ":53"},
	}
	try(t, egress.Policy{}, attacks)
	for i := range attacks {
		attacks[i].rule = ""
	}
	try(t, netlab.Policy(t, egress.AllowList, "*", "*:53", "203.0.113.0/24", "10.0.0.0/8", "udp:leak.test"), attacks)
}

// TestTunnelThroughTheResolver asks the box's own resolver for names that carry
// data. None of them may reach a server.
func TestTunnelThroughTheResolver(t *testing.T) {
	lab, _ := netlab.Runtime(t)
	lab.SetDNS(t, netlab.Record{Name: "c2.tunnel.test", Addrs: []string{netlab.Other4}, TXT: "orders"})
	record := func(typ int, over string) netlab.Probe {
		return netlab.Probe{Op: "dns", Labels: []string{"c2", "tunnel", "test"}, Type: typ, Over: over}
	}
	const why, name = egress.ReasonNotAllowed, "tunnel.test"
	try(t, netlab.Policy(t, egress.AllowList, "allowed.test"), []attack{
		{"A", record(1, "udp"), why, name, "*.tunnel.test"},
		{"A by TCP", record(1, "tcp"), why, name, "*.tunnel.test"},
		{"TXT", record(16, "udp"), why, name, ""},
		{"NULL", record(10, "udp"), why, name, ""},
		{"ANY", record(255, "udp"), why, name, ""},
		{"HTTPS", record(65, "udp"), why, name, ""},
		{"data in labels", question(strings.Repeat("x", 63) + "|" + strings.Repeat("y", 63) + "|tunnel|test"), why, name, ""},
	})
	// The rule for A let one name through. That alone was ever asked.
	for _, q := range lab.Seen(t).Questions {
		if strings.Contains(q, "tunnel") && q != "c2.tunnel.test. A" && q != "c2.tunnel.test. AAAA" {
			t.Errorf("the name server was asked %q", q)
		}
	}
}

// TestNamesThatAreNone writes names on the wire that another parser could read
// as allowed.
func TestNamesThatAreNone(t *testing.T) {
	lab, _ := netlab.Runtime(t)
	raw := func(hex string) netlab.Probe { return netlab.Probe{Op: "dns", Raw: hex, Limit: 1} }
	const head = "123401000001000000000000"
	attacks := []attack{
		{"suffix", question("allowed|test|other|test"), egress.ReasonNotAllowed, "allowed.test.other.test", "allowed.test.other.test"},
		{"substring", question("xallowed|test"), egress.ReasonNotAllowed, "xallowed.test", "xallowed.test"},
		{"NUL", question("evil\x00|allowed|test"), egress.ReasonBadName, "allowed", ""},
		{"NUL in the middle", question("evil|test\x00|www|allowed|test"), egress.ReasonBadName, "allowed", ""},
		{"a dot in a label", question("evil.test|allowed|test"), "", "", ""},
		{"a dot that hides the rest", question("www.allowed.test|evil|test"), "", "", ""},
		{"space", question("www allowed|test"), egress.ReasonBadName, "allowed", ""},
		{"newline", question("www\nallowed|test"), egress.ReasonBadName, "allowed", ""},
		{"not ASCII", question("\u00ff\u00fe|allowed|test"), egress.ReasonBadName, "allowed", ""},
	}
	try(t, netlab.Policy(t, egress.AllowList, "allowed.test", "*.allowed.test"), attacks)
	for _, q := range lab.Seen(t).Questions {
		if strings.ContainsAny(q, "\x00\n") || strings.Contains(q, "evil") {
			t.Errorf("the name server was asked %q", q)
		}
	}
	// What is no message is dropped or refused, and harms nobody.
	_, b := box(t, netlab.Policy(t, egress.AllowList, "allowed.test", netlab.Allowed4))
	for _, r := range netlab.Attempt(t, b,
		raw(head+"c00c00010001"),         // a pointer to itself
		raw(head+"03777777c00c00010001"), // a loop
		raw(head+"ff00010001"),           // a label of no kind
		raw("1234010000ff000000000000"+"07616c6c6f776564047465737400"+"00010001"),                            // 255 questions
		raw("12340100000200000000000007616c6c6f77656404746573740000010001036576696c047465737400"+"00010001"), // two
		raw("123481000001000000000000"+"07616c6c6f776564047465737400"+"00010001"),                            // an answer
		raw("00"), raw("1234"), raw(head),
	) {
		if r.OK {
			t.Errorf("got an answer %q", r.Data)
		}
	}
	alive(t, lab, b)
	// Other letters are the same name.
	if r := netlab.Attempt(t, b, question("ALLOWED|Test"))[0]; !r.OK {
		t.Errorf("ALLOWED.Test: got %s, want an answer", r.Err)
	}
}

// TestRebinding lets allowed names resolve to what is refused, at once, after a
// while, and among what is allowed.
func TestRebinding(t *testing.T) {
	lab, _ := netlab.Runtime(t)
	set := func(name string, addrs ...string) { lab.SetDNS(t, netlab.Record{Name: name, Addrs: addrs}) }
	set("meta.rebind.test", "169.254.169.254")
	set("nat64.rebind.test", "64:ff9b::a9fe:a9fe")
	set("private.rebind.test", "10.9.8.7")
	set("host.rebind.test", netlab.HostIPv4)
	set("loop.rebind.test", "127.0.0.1")
	lab.SetDNS(t, netlab.Record{Name: "cname.rebind.test", CNAME: "private.rebind.test"})
	at := func(name string, port int) netlab.Probe {
		return netlab.Probe{Op: "tcp", To: name, Port: port, Say: "x"}
	}
	public := listen(t, netlab.HostIPv4+":0")
	try(t, netlab.Policy(t, egress.AllowList, "*.rebind.test"), []attack{
		{"metadata", web("meta.rebind.test"), egress.ReasonMetadata, "169.254.169.254", "169.254.169.254"},
		{"NAT64", web("nat64.rebind.test"), egress.ReasonMetadata, "64:ff9b::a9fe:a9fe", ""},
		{"private", at("private.rebind.test", 7), egress.ReasonPrivate, "10.9.8.7", "10.9.8.0/24"},
		{"by CNAME", at("cname.rebind.test", 7), egress.ReasonPrivate, "10.9.8.7", "10.9.8.0/24"},
		{"the host", at("host.rebind.test", public), egress.ReasonHost, netlab.HostIPv4, netlab.HostIPv4},
		{"loopback", netlab.Probe{Op: "lookup", To: "loop.rebind.test"}, egress.ReasonLoopback, "127.0.0.1", "127.0.0.1"},
	})

	// The second answer is another address: what was pinned stays reachable,
	// and the new one is not given out.
	lab.SetDNS(t,
		netlab.Record{Name: "flip.rebind.test", Addrs: []string{netlab.Allowed4}},
		netlab.Record{Name: "flip.rebind.test", Addrs: []string{"10.6.6.6"}, Then: true},
	)
	_, b := box(t, netlab.Policy(t, egress.AllowList, "flip.rebind.test"))
	v4 := netlab.Probe{Op: "dns", Labels: []string{"flip", "rebind", "test"}}
	rs := netlab.Attempt(t, b, v4, netlab.Probe{Op: "http", To: netlab.Allowed4, Port: 80, Host: "flip.rebind.test"}, v4, web("10.6.6.6"))
	for i, want := range []bool{true, true, false, false} {
		if rs[i].OK != want {
			t.Errorf("step %d: got %+v, want ok = %v", i+1, rs[i], want)
		}
	}
}

// TestHostOfTheClient says other names in TLS and HTTP than were looked up.
func TestHostOfTheClient(t *testing.T) {
	page := func(op, to, sni, host string) netlab.Probe {
		port := map[string]int{"http": 80, "tls": 443}[op]
		return netlab.Probe{Op: op, To: to, Port: port, SNI: sni, Host: host}
	}
	try(t, netlab.Policy(t, egress.AllowList, "allowed.test", "www.allowed.test"), []attack{
		{"SNI", page("tls", "allowed.test", "shared.test", "shared.test"), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"SNI of another allowed name", page("tls", "allowed.test", "other.test", "other.test"), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"SNI with more", page("tls", "allowed.test", "allowed.test.evil.com", "allowed.test"), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"no SNI", page("tls", "allowed.test", "", "allowed.test"), egress.ReasonNoName, netlab.Allowed4, netlab.Allowed4},
		{"Host", page("http", "allowed.test", "", "shared.test"), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"Host with a port", page("http", "allowed.test", "", "shared.test:80"), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"Host that is an address", page("http", "allowed.test", "", netlab.Allowed4), egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"absolute form", netlab.Probe{Op: "http", To: "allowed.test", Port: 80, Host: "allowed.test", Path: "http://shared.test/"}, egress.ReasonName, netlab.Allowed4, netlab.Allowed4},
		{"neither TLS nor HTTP", netlab.Probe{Op: "tcp", To: "allowed.test", Port: 443, Say: "hello\r\n\r\n"}, egress.ReasonNoName, netlab.Allowed4, ""},
		{"an address that nobody looked up", page("http", netlab.Other4, "", "allowed.test"), egress.ReasonNotAllowed, netlab.Other4, netlab.Other4},
		{"an address that nobody looked up, by TLS", page("tls", netlab.Other6, "allowed.test", "allowed.test"), egress.ReasonNotAllowed, netlab.Other6, netlab.Other6},
	})
	// One connection, several requests: each is judged.
	_, b := box(t, netlab.Policy(t, egress.AllowList, "allowed.test"))
	two := "GET /1 HTTP/1.1\r\nHost: allowed.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: shared.test\r\nConnection: close\r\n\r\n"
	out, err := b.Command(t.Context(), "python3", "-c", `
import socket, sys
s = socket.create_connection(("allowed.test", 80), 8)
s.sendall(sys.argv[1].encode())
data = b""
while True:
    more = s.recv(65536)
    if not more: break
    data += more
sys.stdout.buffer.write(data)`, two).Output()
	if text := string(out); err != nil || !strings.Contains(text, "path=/1") || strings.Contains(text, "path=/2") || !strings.Contains(text, " 403 ") {
		t.Errorf("got %v\n%s\nwant the first page and a 403", err, text)
	}
}

// TestRedirect is refused where it leads.
func TestRedirect(t *testing.T) {
	_, b := box(t, netlab.Policy(t, egress.AllowList, "allowed.test"))
	follow := func(to string) string {
		out, _ := b.Command(t.Context(), "python3", "-c", `
import sys, urllib.request
try: print(urllib.request.urlopen("http://allowed.test/redirect?to=" + sys.argv[1], timeout=8).read())
except Exception as e: print("refused", e)`, to).CombinedOutput()
		return string(out)
	}
	for to, reason := range map[string]egress.Reason{
		"http://other.test/secret":                 egress.ReasonNotAllowed,
		"http://169.254.169.254/latest/meta-data/": egress.ReasonMetadata,
		"http://10.0.0.1/":                         egress.ReasonPrivate,
	} {
		if got := follow(to); !strings.HasPrefix(got, "refused") {
			t.Errorf("redirect to %s: got %q, want a refusal", to, got)
		}
		found := false
		for _, e := range netlab.Log(t, b) {
			found = found || e.Reason == reason
		}
		if !found {
			t.Errorf("redirect to %s: no event with reason %q", to, reason)
		}
	}
	if got := follow("http://allowed.test/end"); !strings.Contains(got, "path=/end") {
		t.Errorf("redirect to an allowed page: got %q", got)
	}
}
