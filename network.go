package boxlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/shim"
	"github.com/boxlite-go/boxlite/internal/store"
)

// offline tells whether the box has no network at all.
func (o *BoxOptions) offline() bool {
	return o.Security.NetworkDisabled || o.Network.Mode == egress.Disabled
}

func (o *BoxOptions) checkNetwork() error {
	if err := checkPolicy(o.Network); err != nil {
		return err
	}
	if err := checkPorts(o.Ports); err != nil {
		return err
	}
	if !o.offline() {
		return nil
	}
	what := ""
	switch {
	case len(o.Ports) > 0:
		what = "published ports"
	case len(o.Secrets) > 0:
		what = "secrets"
	case o.Network.Mode == egress.AllowList, len(o.Network.Allow)+len(o.Network.Deny) > 0:
		what = "rules"
	}
	if what != "" {
		return fmt.Errorf("%w: %s in a box whose network is disabled: leave out one of them", ErrInvalid, what)
	}
	return nil
}

func checkPolicy(p egress.Policy) error {
	if err := p.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// network is what the shim makes of the options; nil: no network.
func (b *localBox) network(o BoxOptions) (*shim.Network, error) {
	if o.offline() {
		return nil, nil
	}
	n := &shim.Network{Policy: o.Network, Resolver: b.rt.resolver}
	for _, p := range o.Ports {
		n.Ports = append(n.Ports, shim.Port{Proto: p.proto(), Host: p.host(), Box: p.BoxPort})
	}
	var err error
	n.Secrets, err = b.secrets()
	return n, err
}

func (b *localBox) SetNetwork(ctx context.Context, p egress.Policy) error {
	return b.fail("set network", b.setNetwork(ctx, p))
}

func (b *localBox) setNetwork(ctx context.Context, p egress.Policy) error {
	row, o, err := b.stored(ctx)
	if err != nil {
		return err
	}
	was := o.offline()
	o.Network = p
	if err := o.checkNetwork(); err != nil {
		return err
	}
	if was != o.offline() {
		if run, err := shim.Read(b.dir()); err == nil && run.Active() {
			return fmt.Errorf("%w: a running box cannot get a network or lose it: stop it first", ErrState)
		}
	}
	if row.Options, err = json.Marshal(o); err != nil {
		return err
	}
	if err := b.rt.store.SetOptions(ctx, b.id, row.Options); err != nil {
		return rowErr(err)
	}
	if o.offline() {
		return nil
	}
	return b.applyNetwork(ctx, o)
}

// applyNetwork tells the shim. One that is just starting the box may have read
// the options before: it is told when it listens.
func (b *localBox) applyNetwork(ctx context.Context, o BoxOptions) error {
	for {
		err := b.shim().SetPolicy(ctx, o.Network)
		if !errors.Is(err, shim.ErrNotRunning) {
			return err
		}
		if run, err := shim.Read(b.dir()); err != nil || run.State != shim.Starting {
			return nil
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// settleNetwork catches up with a change of what the box may reach that was stored
// while it was started, when there was no shim yet to be told of it.
func (b *localBox) settleNetwork(ctx context.Context, begun BoxOptions) error {
	_, o, err := b.stored(ctx)
	switch {
	case errors.Is(err, ErrNotFound): // it has ended, and was to be removed then
		return nil
	case err != nil:
		return err
	case o.offline() != begun.offline():
		return fmt.Errorf("%w: its network was switched on or off while it was started: start it again", ErrState)
	case o.offline(), samePolicy(o.Network, begun.Network):
		return nil
	}
	return b.applyNetwork(ctx, o)
}

func samePolicy(p, q egress.Policy) bool {
	return p.Mode == q.Mode && slices.Equal(p.Allow, q.Allow) && slices.Equal(p.Deny, q.Deny)
}

// stored returns the box as it is in the store now.
func (b *localBox) stored(ctx context.Context) (row store.Box, o BoxOptions, err error) {
	if row, err = b.rt.store.Get(ctx, b.id); err != nil {
		return row, o, rowErr(err)
	}
	o, err = decodeOptions(row)
	return row, o, err
}

func rowErr(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("%w: it was removed", ErrNotFound)
	}
	return err
}

// Dial is [Box.DialContext] without a context.
func (b *Box) Dial(network, addr string) (net.Conn, error) {
	return b.DialContext(context.Background(), network, addr)
}

// DialContext connects to a port of the running box, whether it is published
// or not. The network is "tcp" or "udp", which mean IPv4 in the box, or has a 4
// or a 6 at its end. Of the address only the port counts: whatever its host
// says, the box is meant, so that DialContext fits [net/http.Transport].
// Programs in the box see a connection from their gateway, so they must listen
// on their network device and not on loopback alone.
//
// The error is [syscall.ECONNREFUSED] when nothing listens there, [ErrState]
// when the box does not run, and [ErrUnsupported] when it has no network.
func (b *Box) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := b.connect(ctx, network, addr)
	if err != nil {
		return nil, b.fail("dial", err)
	}
	return c, nil
}

func (b *Box) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return nil, fmt.Errorf("%w: network %q: give tcp or udp", ErrInvalid, network)
	}
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%w: address %q: give HOST:PORT; any host is the box", ErrInvalid, addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return nil, fmt.Errorf("%w: address %q: give a port from 1 to 65535", ErrInvalid, addr)
	}
	conn, err := b.on.connect(ctx, network, uint16(port))
	if err != nil {
		return nil, err
	}
	return &boxConn{conn, &boxAddr{network, addr}}, nil
}

func (b *localBox) connect(ctx context.Context, network string, port uint16) (boxStream, error) {
	conn, err := b.shim().Connect(ctx, network, port)
	if f, ok := errors.AsType[*shim.Fault](err); ok && f.Kind == shim.KindRefused {
		return nil, errRefused(port)
	}
	if err != nil {
		return nil, err // not conn: a nil one is no nil interface
	}
	return conn, nil
}

func errRefused(port uint16) error {
	return fmt.Errorf("nothing listens on port %d of the box but on its loopback: %w", port, syscall.ECONNREFUSED)
}

// boxConn is a connection into a box. It can be closed one way, as TCP can.
type boxConn struct {
	boxStream
	remote net.Addr
}

// RemoteAddr is the address that was asked for.
func (c *boxConn) RemoteAddr() net.Addr { return c.remote }

type boxAddr struct{ network, addr string }

func (a *boxAddr) Network() string { return a.network }
func (a *boxAddr) String() string  { return a.addr }

// parseResolver reads Config.Resolver.
func parseResolver(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 53), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: resolver %q: give the address of a DNS server, IP or IP:PORT", ErrInvalid, s)
	}
	return ap, nil
}
