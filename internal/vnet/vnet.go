package vnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/undo"
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

// errDisabled is the error of a change that would need another box.
var errDisabled = errors.New("a network cannot be switched on or off while the box runs; stop the box first")

// Network is the network of one box. Its methods are safe for concurrent use.
type Network struct {
	link     *link
	box      *os.File // the box's end of the link
	stack    *stack.Stack
	resolver *resolver
	dns      []asked // where it is asked
	gate     *gate
	recorder *recorder
	own      own
	pings    pings
	target   func(netip.AddrPort) netip.AddrPort // tests set it
	policy   atomic.Pointer[egress.Policy]

	traffic     traffic
	connections atomic.Uint64
	refusals    atomic.Uint64
	queries     atomic.Uint64
	dnsConns    atomic.Int32 // connections to the resolver
	spoofed     atomic.Int64 // when a spoofed packet was last recorded, Unix nanoseconds

	ctx    context.Context // ends with the network: it owns flows, as Cmd does a process
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // flows, listeners, the resolver
	once   sync.Once

	mu        sync.Mutex
	closed    bool
	accepting bool
	flows     map[*flow]struct{}
	open      [classes]tally
	published []published
}

// New makes a network. The caller hands Link to the box and calls Close in the
// end.
func New(c Config) (*Network, error) {
	if err := c.Policy.Check(); err != nil {
		return nil, err
	}
	if c.Policy.Mode == egress.Disabled {
		return nil, fmt.Errorf("%w: a box without a network has no card", egress.ErrPolicy)
	}
	n := &Network{flows: map[*flow]struct{}{}, target: target}
	n.open = [classes]tally{{most: maxTCP}, {most: maxUDP}, {most: maxPings}}
	n.pings.live = map[pingKey]*pinger{}
	n.ctx, n.cancel = context.WithCancelCause(context.Background())
	n.resolver = newResolver(resolverConfig{policy: n.policy.Load, local: n.own.has, note: n.note, server: c.Resolver})
	var err error
	if n.gate, err = newGate(gateConfig{policy: n.policy.Load, note: n.note, secrets: c.Secrets}); err != nil {
		return nil, err
	}
	n.setPolicy(c.Policy)
	if err := n.start(c.Record); err != nil {
		return nil, err
	}
	return n, nil
}

// start makes the link and the stack, and undoes all if it fails.
func (n *Network) start(record func(egress.Event)) (err error) {
	var u undo.Stack
	defer u.Run()
	u.Add(n.gate.close)
	u.Add(func() { n.cancel(ErrClosed) })
	n.recorder = newRecorder(record)
	u.Add(n.recorder.close)
	if n.link, n.box, err = newLink(); err != nil {
		return err
	}
	u.Add(func() { n.link.Close(); n.box.Close() })
	n.link.spoof = n.spoof
	n.stack = newStack()
	u.Add(n.stack.Destroy)
	n.setHandlers()
	if err := configure(n.stack, n.link); err != nil {
		return err
	}
	for _, at := range []netip.Addr{Gateway4, Gateway6} {
		c, err := n.listenDNS(at)
		if err != nil {
			return err
		}
		n.dns = append(n.dns, c)
	}
	for _, c := range n.dns {
		n.wg.Go(func() { c.serve(n) }) // Close closes c and waits
	}
	n.link.start()
	u.Keep()
	return nil
}

// setHandlers says what is done with packets that are for no port of our own.
func (n *Network) setHandlers() {
	s := n.stack
	s.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(s, 0, maxConnects, n.handleTCP).HandlePacket)
	s.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s, n.handleUDP).HandlePacket)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber4, n.handleICMP)
	s.SetTransportProtocolHandler(icmp.ProtocolNumber6, n.handleICMP)
}

// Link returns the end of the link that is for the box: a datagram socket with an
// Ethernet frame in each datagram. It belongs to the network, which closes it in
// Close; close it earlier once the box has a duplicate.
func (n *Network) Link() *os.File { return n.box }

// SetPolicy changes the policy at once, for open flows too: those that it refuses
// are reset. It cannot change to disabled: that is a box without a card.
func (n *Network) SetPolicy(p egress.Policy) error {
	if err := p.Check(); err != nil {
		return err
	}
	if p.Mode == egress.Disabled {
		return errDisabled
	}
	n.setPolicy(p)
	n.note(egress.Event{Kind: egress.KindPolicy, Verdict: egress.Verdict{Action: egress.Allow, Rule: string(cmp.Or(p.Mode, egress.Enabled))}})
	for _, fl := range n.all() {
		n.enforce(fl, n.policy.Load())
	}
	n.gate.recheck()
	return nil
}

func (n *Network) setPolicy(p egress.Policy) {
	p = reach(p, n.gate.secrets)
	n.policy.Store(&p)
}

// all returns the flows of this moment.
func (n *Network) all() []*flow {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.flows))
}

// CA returns the certificate, in PEM, that the box must trust for its secrets to
// work. It is nil without secrets.
func (n *Network) CA() []byte { return n.gate.ca() }

// Stats counts what happened so far.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	open := len(n.flows)
	n.mu.Unlock()
	return Stats{
		Sent: n.traffic.sent.Load(), Received: n.traffic.received.Load(),
		Connections: n.connections.Load(), Open: open,
		Refused: n.refusals.Load(), DNSQueries: n.queries.Load(),
	}
}

// Close ends all flows with a reset and waits for everything that the network
// started. It can be called more than once.
func (n *Network) Close() error {
	n.once.Do(n.close)
	return nil
}

func (n *Network) close() {
	n.mu.Lock()
	n.closed = true
	ports := n.published
	n.mu.Unlock()
	n.cancel(ErrClosed)
	for _, p := range ports {
		p.Close()
	}
	for _, c := range n.dns {
		c.Close()
	}
	for _, fl := range n.all() {
		fl.reset(ErrClosed)
	}
	n.abort()
	n.gate.close()
	n.stack.Close()
	n.link.Close()
	n.link.Wait() // before the stack does, which then holds a lock that the reader may want
	n.stack.Wait()
	n.box.Close()
	n.recorder.close()
}

// abort ends all connections of the stack until nothing of ours is left that uses
// one. One pass is not enough: a handshake that begins meanwhile would go on until
// the box answers it.
func (n *Network) abort() {
	done := make(chan struct{})
	go func() { // waited for below
		defer close(done)
		n.wg.Wait()
	}()
	tick := time.NewTicker(abortTime)
	defer tick.Stop()
	for {
		for _, ep := range n.stack.RegisteredEndpoints() {
			ep.Abort()
		}
		select {
		case <-done:
			return
		case <-tick.C:
		}
	}
}

// enter counts something that Close has to wait for, unless it is too late.
func (n *Network) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.wg.Add(1)
	}
	return !n.closed
}

// pause waits a moment, and tells whether the network is still open.
func (n *Network) pause() bool {
	select {
	case <-time.After(retryTime):
		return true
	case <-n.ctx.Done():
		return false
	}
}
