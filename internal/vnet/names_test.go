package vnet

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/boxlite-go/boxlite/egress"
)

// namesTest is a box whose resolver asks the zone of the tests, with a server of
// the host's loopback at the addresses that are in it.
type namesTest struct {
	*testBox
	log   *eventLog
	roots *x509.CertPool // what a program in the box trusts
	https string
	plain string
}

func newNamesTest(t *testing.T, p egress.Policy, secrets ...Secret) *namesTest {
	t.Helper()
	servers := newGateTest(t, p)
	servers.tlsServer("allowed.test", echo)
	n := &namesTest{log: newEventLog(), https: servers.server, roots: servers.roots}
	servers.httpServer(echo)
	n.plain = servers.server
	zone := newDNSTest(t, p)
	n.testBox = newBox(t, Config{Policy: p, Secrets: secrets, Record: n.log.record, Resolver: zone.server})
	n.net.gate.roots = servers.roots
	n.net.target = func(a netip.AddrPort) netip.AddrPort {
		if a.Port() == 443 {
			return netip.MustParseAddrPort(n.https)
		}
		return netip.MustParseAddrPort(n.plain)
	}
	return n
}

// lookup asks the resolver of the box from inside, and returns the first address.
func (n *namesTest) lookup(t *testing.T, name string) (netip.Addr, error) {
	t.Helper()
	c := n.dialUDP(netip.AddrPortFrom(Gateway4, dnsPort))
	defer c.Close()
	if _, err := c.Write(query(t, name, dnsmessage.TypeA, 1232)); err != nil {
		return netip.Addr{}, err
	}
	b := make([]byte, maxSize)
	k, err := c.Read(b)
	if err != nil {
		return netip.Addr{}, err
	}
	var m dnsmessage.Message
	if err := m.Unpack(b[:k]); err != nil {
		return netip.Addr{}, err
	}
	if len(m.Answers) == 0 {
		return netip.Addr{}, fmt.Errorf("no answer: %v", m.RCode)
	}
	return netip.ParseAddr(bodies(&m)[0])
}

// client is one of HTTP in the box, which looks up the names that it is given.
func (n *namesTest) client(t *testing.T, roots *x509.CertPool) *http.Client {
	tr := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(_ context.Context, _, to string) (net.Conn, error) {
			host, port, err := net.SplitHostPort(to)
			if err != nil {
				return nil, err
			}
			a, err := n.lookup(t, host+".")
			if err != nil {
				return nil, err
			}
			return n.dial(netip.MustParseAddrPort(net.JoinHostPort(a.String(), port)))
		},
	}
	n.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// TestNamesInBox promises the whole way of a name: from the question of the box to
// the server, and what is recorded.
func TestNamesInBox(t *testing.T) {
	n := newNamesTest(t, policy(egress.AllowList, "allowed.test", "*.allowed.test"))
	c := n.client(t, n.roots)
	if _, err := n.dial(netip.MustParseAddrPort("203.0.113.7:443")); !isRefused(err) {
		t.Errorf("an address that was not looked up: got %v, want connection refused", err)
	}
	for _, url := range []string{"http://allowed.test/", "https://allowed.test/"} {
		if res, body := get(t, c, request(t, http.MethodPost, url, "body")); res.StatusCode != http.StatusOK || body != "body" {
			t.Errorf("%s: got %d %q", url, res.StatusCode, body)
		}
	}
	r := request(t, http.MethodGet, "http://allowed.test/", "")
	r.Host = "evil.test"
	if res, body := get(t, c, r); res.StatusCode != http.StatusForbidden || !strings.Contains(body, string(egress.ReasonName)) {
		t.Errorf("another host: got %d %q, want 403 and why", res.StatusCode, body)
	}
	if _, err := n.lookup(t, "evil.test."); err == nil || !strings.Contains(err.Error(), "NameError") {
		t.Errorf("another name: got %v, want NXDOMAIN", err)
	}
	raw := n.mustDial(netip.MustParseAddrPort("203.0.113.7:443"))
	err := tls.Client(raw, &tls.Config{ServerName: "evil.test", InsecureSkipVerify: true}).HandshakeContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("another name in TLS: got %v, want the alert access denied", err)
	}
	for what, is := range map[string]func(egress.Event) bool{
		"the refused request": func(e egress.Event) bool { return e.Kind == egress.KindHTTP && e.Name == "evil.test" },
		"the refused name":    func(e egress.Event) bool { return e.Kind == egress.KindDNS && e.Name == "evil.test" },
		"the refused hello":   func(e egress.Event) bool { return e.Kind == egress.KindFlow && e.Reason == egress.ReasonName },
		"the end of a flow": func(e egress.Event) bool {
			return e.Closed && e.Name == "allowed.test" && e.Action == egress.Allow && e.Sent > 0 && e.Received > 0
		},
	} {
		if what == "the end of a flow" {
			c.CloseIdleConnections()
		}
		n.log.await(t, what, is)
	}
}

// TestResolverOverTCP promises that long answers can be had.
func TestResolverOverTCP(t *testing.T) {
	n := newNamesTest(t, policy(egress.AllowList, "*.allowed.test"))
	c := n.mustDial(netip.AddrPortFrom(Gateway4, dnsPort))
	for range 2 {
		q := query(t, "many.allowed.test.", dnsmessage.TypeA, 0)
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			t.Fatal(err)
		}
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(b); err != nil || len(m.Answers) != 60 {
			t.Errorf("got %v, %d answers, want all 60", err, len(m.Answers))
		}
	}
}

// TestSecretInBox promises the whole way of a secret, through the stack of a box:
// no rule but the secret is needed.
func TestSecretInBox(t *testing.T) {
	n := newNamesTest(t, policy(egress.AllowList, "*.other.test"), key("allowed.test"))
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(n.net.CA()) {
		t.Fatal("no authority")
	}
	c := n.client(t, roots)
	for range 2 {
		r := request(t, http.MethodPost, "https://allowed.test/", strings.Repeat("x", 100_000)+placeholder)
		r.Header.Set("Content-Type", "text/plain")
		r.Header.Set("Authorization", "Bearer "+placeholder)
		res, body := get(t, c, r)
		if res.StatusCode != http.StatusOK || !strings.HasSuffix(body, "x"+placeholder) || res.Header.Get("X-Got-Authorization") != "Bearer "+placeholder {
			t.Errorf("got %d, %d bytes, %q", res.StatusCode, len(body), res.Header)
		}
		if got, want := res.Header.Get("X-Got-Content-Length"), fmt.Sprint(100_000+len(value)); got != want {
			t.Errorf("length that the server was told: got %s, want %s", got, want)
		}
	}
	n.log.await(t, "the use of the secret", func(e egress.Event) bool { return e.Kind == egress.KindSecret && e.Name == "allowed.test" })

	// The end of the network ends what is going on.
	raw := n.mustDial(netip.MustParseAddrPort("203.0.113.7:443"))
	tc := tls.Client(raw, &tls.Config{ServerName: "allowed.test", RootCAs: roots, NextProtos: []string{"http/1.1"}})
	fmt.Fprint(tc, "POST / HTTP/1.1\r\nHost: allowed.test\r\nContent-Length: 10\r\n\r\nhalf ")
	n.log.await(t, "the flow", func(e egress.Event) bool { return e.Kind == egress.KindFlow && e.Action == egress.Sniff })
	if err := n.net.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(tc).ReadByte(); err == nil {
		t.Error("a connection goes on after Close")
	}
}
