package gvisor_test

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// nic returns a device for a machine, and the other end of its link.
func nic(t *testing.T) (*engine.NIC, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	link, ours := os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")
	t.Cleanup(func() { link.Close(); ours.Close() })
	return &engine.NIC{
		Link: link, MTU: 9000, MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		Addrs:     []netip.Prefix{netip.MustParsePrefix("192.168.127.2/24"), netip.MustParsePrefix("fd00:1::2/64")},
		Gateways:  []netip.Addr{netip.MustParseAddr("192.168.127.1"), netip.MustParseAddr("fd00:1::1")},
		Resolvers: []netip.Addr{netip.MustParseAddr("192.168.127.1")},
	}, ours
}

// TestNIC boots a machine with a network and looks at both sides of it.
func TestNIC(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	var wire *os.File
	s.NIC, wire = nic(t)
	c := start(t, s)
	if got, want := devices(t, c), "lo eth0"; got != want {
		t.Errorf("devices: got %q, want %q", got, want)
	}
	if got, want := sh(t, c, "cat /etc/resolv.conf"), "nameserver 192.168.127.1\n"; !strings.HasSuffix(got, want) {
		t.Errorf("resolv.conf: got %q, want %q at its end", got, want)
	}
	got := sh(t, c, "ip addr show eth0; ip route; ip -6 route")
	for _, want := range []string{
		"mtu 9000", "02:00:00:00:00:02", "192.168.127.2/24", "fd00:1::2/64",
		"default via 192.168.127.1 dev eth0", "default via fd00:1::1 dev eth0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("configuration: got\n%swant %q", got, want)
		}
	}
	// Whoever is far away is asked for at the gateway.
	for script, want := range map[string][]byte{
		"timeout 1 nc 203.0.113.1 80 || true": {192, 168, 127, 1},
		"timeout 1 nc 2001:db8::1 80 || true": {0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1},
	} {
		sh(t, c, script)
		awaitFrame(t, wire, want)
	}
}

// awaitFrame reads frames of a box until one holds what is wanted.
func awaitFrame(t *testing.T, wire *os.File, want []byte) {
	t.Helper()
	if err := wire.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	frame := make([]byte, 64<<10)
	for {
		n, err := wire.Read(frame)
		if err != nil {
			t.Fatalf("frame for the gateway: %v", err)
		}
		if bytes.Contains(frame[:n], want) {
			return
		}
	}
}

func TestWithoutNICThereIsOnlyLoopback(t *testing.T) {
	testenv.NeedGVisor(t)
	c := start(t, spec(t))
	if got, want := devices(t, c), "lo"; got != want {
		t.Errorf("devices: got %q, want %q", got, want)
	}
}

func TestStartRefusesABadNIC(t *testing.T) {
	for name, spoil := range map[string]func(*engine.NIC){
		"no link":      func(n *engine.NIC) { n.Link = nil },
		"no MAC":       func(n *engine.NIC) { n.MAC = nil },
		"no address":   func(n *engine.NIC) { n.Addrs = nil },
		"a tiny MTU":   func(n *engine.NIC) { n.MTU = 1000 },
		"a huge MTU":   func(n *engine.NIC) { n.MTU = 1 << 20 },
		"negative MTU": func(n *engine.NIC) { n.MTU = -1 },
	} {
		s := spec(t)
		s.NIC, _ = nic(t)
		spoil(s.NIC)
		if _, err := gvisor.New(gvisor.Options{}).Start(t.Context(), s); err == nil {
			t.Errorf("start with %s: got nil, want an error", name)
		}
	}
}

// devices lists the network devices of a box.
func devices(t *testing.T, m engine.Machine) string {
	t.Helper()
	return strings.Join(strings.Fields(sh(t, m, "tail -n +3 /proc/net/dev | cut -d: -f1")), " ")
}
