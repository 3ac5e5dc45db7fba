package vnet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/boxlite-go/boxlite/egress"
)

// Config says what a network is like.
type Config struct {
	// Policy decides what the box may reach. Its zero value allows the public
	// internet. A box whose mode is disabled has no network: New refuses it.
	Policy egress.Policy

	// Secrets are put into requests to their hosts, which see the value where
	// the box wrote the placeholder.
	Secrets []Secret

	// Record gets the audit log: one event at a time, in order, Seq and Time
	// set. While it does not return, new flows wait. Nil drops the events.
	Record func(egress.Event)

	// Resolver is the DNS server that is asked for the box. The zero value
	// asks as the host does.
	Resolver netip.AddrPort

	// Logger gets what we go on in spite of. Nil is silent.
	Logger *slog.Logger
}

// Port is a port of the box that is reached through one of the host.
type Port struct {
	Proto egress.Proto   // TCP or UDP
	Host  netip.AddrPort // an invalid address is 127.0.0.1; port 0 lets the host choose
	Box   uint16
}

// Stats counts what a network did.
type Stats struct {
	Sent        uint64 // bytes from the box
	Received    uint64 // bytes to the box
	Connections uint64 // flows that were allowed, of both directions
	Open        int    // of these, not yet over
	Refused     uint64 // flows, questions and requests that were not allowed
	DNSQueries  uint64
}

// ErrClosed is the error of a network that is closed.
var ErrClosed = errors.New("network is closed")

// Network is the network of one box. Its methods are safe for concurrent use.
type Network struct {
	config Config
}

// New makes a network. The caller hands Link to the box and calls Close in the
// end.
func New(c Config) (*Network, error) {
	if err := c.Policy.Check(); err != nil {
		return nil, err
	}
	return &Network{config: c}, errors.ErrUnsupported
}

// Link returns the end of the link that is for the box: a datagram socket with an
// Ethernet frame in each datagram. It belongs to the network, which closes it in
// Close; close it earlier once the box has a duplicate.
func (n *Network) Link() *os.File { return nil }

// SetPolicy changes the policy at once, for open flows too: those that it refuses
// are reset. It cannot change to disabled: that is a box without a card.
func (n *Network) SetPolicy(p egress.Policy) error { return p.Check() }

// DialContext connects to a port of the box; network is "tcp" or "udp". The
// policy is not asked: it is about what the box does.
func (n *Network) DialContext(context.Context, string, uint16) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// Publish listens on the host for ports of the box, on all or on none, and
// returns them with the host's addresses filled in. It can be called before the
// box runs: connections wait until Accept.
func (n *Network) Publish([]Port) ([]Port, error) { return nil, errors.ErrUnsupported }

// Accept starts to serve the published ports.
func (n *Network) Accept() {}

// CA returns the certificate, in PEM, that the box must trust for its secrets to
// work. It is nil without secrets.
func (n *Network) CA() []byte { return nil }

// Stats counts what happened so far.
func (n *Network) Stats() Stats { return Stats{} }

// Close ends all flows with a reset and waits for everything that the network
// started. It can be called more than once.
func (n *Network) Close() error { return nil }
