package netlab

import (
	"crypto/x509"
	"net/rpc"
	"testing"
)

// The addresses of the test process, which are the host's own for its boxes.
const (
	HostIPv4 = "198.51.100.1"
	HostIPv6 = "2001:db8:1::1"

	routerIPv4 = "198.51.100.254"
	routerIPv6 = "2001:db8:1::fe"
)

// Addresses in the laboratory that have a meaning. Besides them every address of
// the ranges in world.go answers, on the ports in servers.go.
const (
	Allowed4 = "203.0.113.10" // allowed.test, and shared.test, as on a content network
	Allowed6 = "2001:db8:2::10"
	Other4   = "203.0.113.20" // other.test
	Other6   = "2001:db8:2::20"

	Resolver  = "203.0.113.53:53" // knows the names of the laboratory
	Resolver6 = "[2001:db8:2::53]:53"

	// Rogue servers answer any question, and it is not the host that asked.
	Rogue4       = "203.0.113.54"
	Rogue6       = "2001:db8:2::54"
	RoguePrivate = "10.1.2.53"
)

// Lab is a laboratory. It is safe for concurrent use, but what tests change in
// it, they all see: use names of your own.
type Lab struct {
	client *rpc.Client
	ca     []byte
}

// CA returns the certificate, in PEM, of the authority that signs for every name
// and address in the laboratory.
func (l *Lab) CA() []byte { return l.ca }

// Pool returns the CA for a TLS client of the test.
func (l *Lab) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(l.ca)
	return p
}

// Record is what the resolver of the laboratory answers for a name. When there
// are several for a name and Then is set, each question for IPv4 addresses gets
// the next one, and the last one stays.
type Record struct {
	Name  string
	Addrs []string // A and AAAA
	CNAME string   // instead of addresses
	TXT   string
	Then  bool // an answer after the one before, not beside it
}

// SetDNS replaces what the resolver knows about the names in rs.
func (l *Lab) SetDNS(tb testing.TB, rs ...Record) {
	tb.Helper()
	l.call(tb, "SetDNS", rs, &struct{}{})
}

// Seen is what arrived at the servers.
type Seen struct {
	Questions []string       // "name. TYPE", at the resolver
	Rogue     []string       // the same, at the rogue servers
	Hits      map[string]int // by "tcp ADDR:PORT" and "udp ADDR:PORT": connections, datagrams
	Sources   map[string]int // addresses from which something came
}

// Seen returns what arrived so far.
func (l *Lab) Seen(tb testing.TB) (s Seen) {
	tb.Helper()
	l.call(tb, "Seen", struct{}{}, &s)
	return s
}

// ServeDir serves the files of a directory at http(s)://any-name/files/NAME/.
func (l *Lab) ServeDir(tb testing.TB, name, dir string) {
	tb.Helper()
	l.call(tb, "ServeDir", [2]string{name, dir}, &struct{}{})
	tb.Cleanup(func() { l.call(tb, "ServeDir", [2]string{name, ""}, &struct{}{}) })
}

// ServeGit serves the bare repositories in a directory at
// http(s)://any-name/git/, for reading and writing.
func (l *Lab) ServeGit(tb testing.TB, dir string) {
	tb.Helper()
	l.call(tb, "ServeGit", dir, &struct{}{})
}

func (l *Lab) call(tb testing.TB, method string, args, reply any) {
	tb.Helper()
	if err := l.client.Call("World."+method, args, reply); err != nil {
		tb.Fatalf("netlab: %s: %v", method, err)
	}
}
