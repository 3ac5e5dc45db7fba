package netlab

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// ranges are the addresses that the servers have: all of each.
var ranges = []string{
	"203.0.113.0/24", "2001:db8:2::/48", "2001:db8:3::/48", // the public
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "198.18.0.0/15", // the private
	"169.254.0.0/16", "168.63.129.16/32", "192.0.0.0/24", // metadata and reserved
	"fc00::/7", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::ffff:0:0:0/96",
}

// World is what the process with the servers does for the tests, by net/rpc.
type World struct {
	authority *authority
	zone      zone

	mu    sync.Mutex
	seen  Seen
	dirs  map[string]string
	gitIn string
}

// runWorld is the process with the servers. It ends when the test process does.
func runWorld() int {
	f := os.NewFile(3, "test process")
	conn, err := net.FileConn(f)
	f.Close()
	if err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
	w := &World{
		dirs: map[string]string{},
		seen: Seen{Hits: map[string]int{}, Sources: map[string]int{}},
		zone: newZone(),
	}
	s := rpc.NewServer()
	if err := s.Register(w); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
	s.ServeConn(conn)
	return 0
}

// Start configures the namespace, starts the servers, and returns their CA.
func (w *World) Start(_ struct{}, ca *[]byte) (err error) {
	if w.authority, err = newAuthority(); err != nil {
		return err
	}
	*ca = w.authority.pem
	if err := w.address(); err != nil {
		return err
	}
	return w.serve()
}

// address waits for the wire and takes the addresses.
func (w *World) address() error {
	err := eventually(10*time.Second, func() error {
		_, err := net.InterfaceByName(wireThere)
		return err
	})
	if err != nil {
		return err
	}
	err = ip(
		"link set lo up",
		"addr add "+routerIPv4+"/24 dev "+wireThere,
		"addr add "+routerIPv6+"/64 dev "+wireThere+" nodad",
		"link set "+wireThere+" up",
	)
	for _, r := range ranges {
		if err == nil {
			err = ip("route add local " + r + " dev lo")
		}
	}
	if err != nil {
		return err
	}
	// The wire carries what a network would drop; that must be ours to see.
	for _, f := range []string{"all", "default", wireThere} {
		_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+f+"/rp_filter", []byte("0"), 0)
	}
	// A local route lets IPv6 receive, but not yet bind.
	return os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0)
}

// SetDNS implements [Lab.SetDNS].
func (w *World) SetDNS(rs []Record, _ *struct{}) error {
	w.zone.set(rs)
	return nil
}

// Seen implements [Lab.Seen].
func (w *World) Seen(_ struct{}, s *Seen) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	*s = Seen{slices.Clone(w.seen.Questions), slices.Clone(w.seen.Rogue), maps.Clone(w.seen.Hits), maps.Clone(w.seen.Sources)}
	return nil
}

// ServeDir implements [Lab.ServeDir]: a name and a directory, or none.
func (w *World) ServeDir(a [2]string, _ *struct{}) error {
	if a[1] != "" && !filepath.IsAbs(a[1]) {
		return errors.New("give an absolute path")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dirs[a[0]] = a[1]
	return nil
}

// ServeGit implements [Lab.ServeGit].
func (w *World) ServeGit(dir string, _ *struct{}) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gitIn = dir
	return nil
}

// hit counts something that arrived.
func (w *World) hit(proto string, local, remote net.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Hits[proto+" "+plainAddr(local)]++
	if host, _, err := net.SplitHostPort(plainAddr(remote)); err == nil {
		w.seen.Sources[host]++
	}
}

// question counts a question to a DNS server.
func (w *World) question(text string, rogue bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rogue {
		w.seen.Rogue = append(w.seen.Rogue, text)
	} else {
		w.seen.Questions = append(w.seen.Questions, text)
	}
}
