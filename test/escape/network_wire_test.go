package escape

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// TestDatagrams tries what has no connection: UDP, QUIC's port, and pings.
func TestDatagrams(t *testing.T) {
	udp := func(to string, port int) netlab.Probe { return netlab.Probe{Op: "udp", To: to, Port: port} }
	try(t, egress.Policy{}, []attack{
		{"metadata", udp("169.254.169.254", 80), egress.ReasonMetadata, "169.254.169.254:80", "169.254.169.254"},
		{"private", udp("10.1.2.3", 7), egress.ReasonPrivate, "10.1.2.3:7", "udp:10.1.2.3:7"},
		{"mapped", udp("::ffff:10.1.2.3", 7), egress.ReasonPrivate, "10.1.2.3:7", "10.1.2.3"},
		{"NAT64", udp("64:ff9b::a01:203", 7), egress.ReasonPrivate, "[64:ff9b::a01:203]:7", "10.1.2.3"},
		{"ULA", udp("fd00:ec2::254", 7), egress.ReasonMetadata, "[fd00:ec2::254]:7", "fd00:ec2::254"},
		{"ping", netlab.Probe{Op: "ping", To: "10.1.2.3"}, egress.ReasonPrivate, "10.1.2.3", "icmp:10.0.0.0/8"},
		{"ping of metadata", netlab.Probe{Op: "ping", To: "169.254.169.254"}, egress.ReasonMetadata, "169.254.169.254", "169.254.169.254"},
	})
	try(t, netlab.Policy(t, egress.AllowList, "allowed.test", "v4.allowed.test"), []attack{
		{"a name", udp("allowed.test", 7), egress.ReasonUDP, netlab.Allowed4 + ":7", "udp:allowed.test"},
		{"QUIC", udp("v4.allowed.test", 443), egress.ReasonUDP, netlab.Allowed4 + ":443", "udp:v4.allowed.test:443"},
		{"an address", udp(netlab.Other4, 7), egress.ReasonNotAllowed, netlab.Other4, "udp:" + netlab.Other4 + ":7"},
		{"IPv6", udp(netlab.Allowed6, 7), egress.ReasonUDP, netlab.Allowed6, "udp:[" + netlab.Allowed6 + "]:7"},
		{"ping", netlab.Probe{Op: "ping", To: netlab.Other4}, egress.ReasonNotAllowed, netlab.Other4, netlab.Other4},
	})
}

// TestSpoofedSource sends packets from addresses that are not the box's. None
// of them may leave, nor may an answer to them.
func TestSpoofedSource(t *testing.T) {
	lab, b := box(t, egress.Policy{})
	before := lab.Seen(t)
	var probes []netlab.Probe
	for _, src := range []string{"203.0.113.20", "192.168.127.1", "192.168.127.254", "127.0.0.1", netlab.HostIPv4, "10.0.0.1", "255.255.255.255", "224.0.0.1"} {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			probes = append(probes, netlab.Probe{Op: "spoof", Proto: proto, Src: src, To: netlab.Allowed4, Port: 7})
		}
	}
	for i, r := range netlab.Attempt(t, b, probes...) {
		t.Logf("%s from %s: %+v", probes[i].Proto, probes[i].Src, r)
	}
	alive(t, lab, b)
	after := lab.Seen(t)
	unseen(t, before, after, "tcp "+netlab.Allowed4+":80")
	for src := range after.Sources {
		if before.Sources[src] == 0 && src != netlab.HostIPv4 && src != netlab.HostIPv6 {
			t.Errorf("something came from %s", src)
		}
	}
	arrives(t, lab, b, netlab.Probe{Op: "spoof", Proto: "udp", Src: "192.168.127.2", To: netlab.Allowed4, Port: 7})
	events := netlab.Log(t, b)
	if !slices.ContainsFunc(events, func(e egress.Event) bool { return e.Reason == egress.ReasonSource }) {
		t.Errorf("no event with reason %q; the log is\n%s", egress.ReasonSource, netlab.Lines(events))
	}
}

// TestFormsOnTheWire writes packets whose addresses a kernel would not, or would
// turn into others first.
func TestFormsOnTheWire(t *testing.T) {
	lab, b := box(t, egress.Policy{})
	before := lab.Seen(t)
	var probes []netlab.Probe
	for _, to := range []string{
		"::ffff:169.254.169.254", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1", "fd00:ec2::254", "::1", "::", "ff02::1",
	} {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			probes = append(probes, netlab.Probe{Op: "spoof", Proto: proto, Src: "fd42:b0c5:17e::2", To: to, Port: 7})
		}
	}
	sent := 0
	for i, r := range netlab.Attempt(t, b, probes...) {
		t.Logf("%s to %s: %+v", probes[i].Proto, probes[i].To, r)
		if r.OK {
			sent++
		}
	}
	if sent == 0 {
		t.Error("no packet could be sent")
	}
	alive(t, lab, b)
	unseen(t, before, lab.Seen(t), "tcp "+netlab.Allowed4+":80")
	for _, e := range netlab.Log(t, b) {
		if e.Action != egress.Deny && e.Addr != netlab.Allowed4+":80" {
			t.Errorf("allowed: %s", netlab.Lines([]egress.Event{e}))
		}
	}
	if err := b.SetNetwork(t.Context(), netlab.Policy(t, egress.Enabled, "10.1.2.3")); err != nil {
		t.Fatal(err)
	}
	arrives(t, lab, b, netlab.Probe{Op: "spoof", Proto: "udp", Src: "fd42:b0c5:17e::2", To: "64:ff9b::a01:203", Port: 7})
}

// arrives sends a packet that is in order, which shows that the others could have
// arrived.
func arrives(t *testing.T, lab *netlab.Lab, b *boxlite.Box, p netlab.Probe) {
	t.Helper()
	at := p.Proto + " " + netip.AddrPortFrom(netip.MustParseAddr(p.To), uint16(p.Port)).String()
	before := lab.Seen(t).Hits[at]
	if r := netlab.Attempt(t, b, p)[0]; !r.OK {
		t.Errorf("%s: got %s", at, r.Err)
	}
	boxtest.Eventually(t, 30*time.Second, "a packet arrives at "+at, func() bool { return lab.Seen(t).Hits[at] > before })
}

// TestPacketsOfOtherKinds sends IP packets of protocols that the box has no use
// for, and broken ones, by raw sockets.
func TestPacketsOfOtherKinds(t *testing.T) {
	lab, b := box(t, egress.Policy{})
	before := lab.Seen(t)
	var probes []netlab.Probe
	raw := func(protocol int, bytes string) {
		probes = append(probes, netlab.Probe{Op: "raw", To: netlab.Allowed4, Protocol: protocol, Hex: bytes})
	}
	inner := "4500001c000100004001" + "0000" + "c0a87f02" + "0a010203" + "0800f7fe00000001" // a ping of 10.1.2.3
	raw(4, inner)                                                                           // IP in IP
	raw(41, "6000000000003b40"+strings.Repeat("00", 32))                                    // IPv6 in IP
	raw(47, "00000800"+inner)                                                               // GRE
	raw(50, strings.Repeat("00", 64))                                                       // ESP
	raw(132, "0007000700000000"+strings.Repeat("00", 32))                                   // SCTP
	raw(1, "0500000000000000"+inner)                                                        // ICMP redirect
	raw(1, "0304000000000044"+inner)                                                        // fragmentation needed, MTU 68
	for _, packet := range []string{
		"4f00003c0001000040110000c0a87f02cb00710a",                                            // header longer than the packet
		"45000014000120004011" + "0000" + "c0a87f02cb00710a",                                  // a first fragment
		"4500001c00012fff4011" + "0000" + "c0a87f02cb00710a" + "0007000700080000",             // the last one, far away
		"46000020000100004011" + "0000" + "c0a87f02cb00710a" + "83070400" + "0a010203" + "00", // source routing
	} {
		raw(0, packet)
	}
	for i, r := range netlab.Attempt(t, b, probes...) {
		t.Logf("%d %v: %+v", probes[i].Protocol, probes[i].Hex, r)
	}
	alive(t, lab, b)
	unseen(t, before, lab.Seen(t), "tcp "+netlab.Allowed4+":80")
}

// TestFramesOfTheBox lets root send ethernet frames of its own making, where the
// guest kernel lets it: replies for the gateway's address, advertisements, and
// frames that are broken. The network goes on, and nothing is believed.
func TestFramesOfTheBox(t *testing.T) {
	lab, b := box(t, egress.Policy{})
	before := lab.Seen(t)
	const us, gateway, all = "5a94efe40cee", "5a94efe40cdd", "ffffffffffff"
	arp := func(op, mac, ip, toMAC, toIP string) string {
		return all + us + "0806" + "000108000604" + op + mac + hexAddr(ip) + toMAC + hexAddr(toIP)
	}
	ns6 := func(body string) string {
		return "333300000001" + us + "86dd" + "60000000" + fmt.Sprintf("%04x", len(body)/2) + "3aff" + hexAddr("fd42:b0c5:17e::1") + hexAddr("ff02::1") + body
	}
	frames := []string{
		arp("0002", us, "192.168.127.1", gateway, "192.168.127.1"),               // "the gateway is here"
		arp("0001", us, "192.168.127.254", "000000000000", "192.168.127.254"),    // "the host is here"
		arp("0002", us, netlab.Allowed4, gateway, "192.168.127.1"),               // "the internet is here"
		ns6("88000000" + "e0000000" + hexAddr("fd42:b0c5:17e::1") + "0201" + us), // neighbour advertisement
		ns6("86000000" + "4000ffff" + strings.Repeat("00", 8) + "0101" + us + "0304" + "40c0" + strings.Repeat("ff", 8) + strings.Repeat("00", 4) + hexAddr("2001:db8:6::")), // router advertisement
		gateway + us + "0800", gateway + us + "86dd", gateway + us + "0806", gateway + us,
		"00", gateway, gateway + us + "88cc" + strings.Repeat("aa", 100), gateway + us + "8100000a0800",
		gateway + us + "0800" + "45", gateway + us + "0800" + strings.Repeat("ff", 1000),
		gateway + gateway + "0800" + strings.Repeat("00", 60), us + us + "0800" + strings.Repeat("45", 60),
	}
	for _, f := range frames {
		if _, err := hex.DecodeString(f); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
	}
	r := netlab.Attempt(t, b, netlab.Probe{Op: "frames", Hex: frames})[0]
	t.Logf("frames: %+v", r)
	alive(t, lab, b)
	unseen(t, before, lab.Seen(t), "tcp "+netlab.Allowed4+":80")
}

func hexAddr(s string) string { return hex.EncodeToString(netip.MustParseAddr(s).AsSlice()) }

// TestFlood begins far more connections than a box may have, to addresses that
// never answer and to ones that do, and looks at the process that carries them.
func TestFlood(t *testing.T) {
	lab, b := box(t, netlab.Policy(t, egress.Enabled, "10.0.0.0/8"))
	alive(t, lab, b)
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := usage(t, info.PID)
	for _, p := range []netlab.Probe{
		{Count: 20000, Net: "198.51.100.{1}", Port: 81},                     // on the wire, but nobody has the address
		{Count: 20000, Net: "10.78.{0}.{1}", Port: 81},                      // refuses every connection
		{Count: maxFlows + 1000, Net: "10.77.{0}.{1}", Port: 7, Batch: 200}, // answers
	} {
		p.Op = "flood"
		f := hold(t, b, p)
		now := usage(t, info.PID)
		t.Logf("%d to %s: %v; descriptors %d -> %d, memory %d -> %d MiB", p.Count, p.Net, f.came, before.fds, now.fds, before.memory>>20, now.memory>>20)
		// Some hundred descriptors are the process' own, and of connections that
		// are not yet.
		if more := now.fds - before.fds; more > maxFlows+1000 {
			t.Errorf("%s: %d descriptors more, want at most %d", p.Net, more, maxFlows+1000)
		}
		// A connection at rest takes two sockets' worth of state and two stacks.
		if more := now.memory - before.memory; more > maxFlows*64<<10 {
			t.Errorf("%s: %d MiB more, want at most 256", p.Net, more>>20)
		}
		if f.came["connected"] > maxFlows {
			t.Errorf("%s: %d connections at once, want at most %d", p.Net, f.came["connected"], maxFlows)
		}
		f.release(t)
		alive(t, lab, b)
	}
	events := netlab.Log(t, b)
	if !slices.ContainsFunc(events, func(e egress.Event) bool { return e.Reason == egress.ReasonLimit }) {
		t.Errorf("none of %d events says %q", len(events), egress.ReasonLimit)
	}
}

// maxFlows is how many connections a box may have at once.
const maxFlows = 4096

// held is a flood that keeps its connections.
type held struct {
	cmd    *boxlite.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
	came   map[string]int // what came of how many attempts
}

func hold(t *testing.T, b *boxlite.Box, p netlab.Probe) *held {
	t.Helper()
	cmd := netlab.Command(t, b, p)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	line, err := lines.ReadString('\n')
	h := &held{cmd: cmd, stdin: in, stdout: lines}
	if err == nil {
		err = json.Unmarshal([]byte(line), &h.came)
	}
	if err != nil {
		t.Fatalf("flood: got %q, %v, want what it came to", line, err)
	}
	return h
}

func (h *held) release(t *testing.T) {
	t.Helper()
	h.stdin.Close()
	_, _ = io.Copy(io.Discard, h.stdout)
	if err := h.cmd.Wait(); err != nil {
		t.Errorf("flood: %v", err)
	}
}

type used struct {
	fds    int
	memory int64 // bytes that are resident and not of files
}

func usage(t *testing.T, pid int) (u used) {
	t.Helper()
	fds, err := os.ReadDir(filepath.Join("/proc", fmt.Sprint(pid), "fd"))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &u.memory); err == nil {
			u.memory <<= 10
			break
		}
	}
	u.fds = len(fds)
	return u
}
