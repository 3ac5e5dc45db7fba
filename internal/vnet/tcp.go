package vnet

import (
	"context"
	"errors"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// errRefused is why a flow ended that the policy no longer allows.
var errRefused = errors.New("no longer allowed by the network policy")

// handleTCP serves a connection that the box wants to make, in a goroutine of its
// own. The box's connect succeeds when ours did, and fails when ours failed.
func (n *Network) handleTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	dst := addrPortOf(id.LocalAddress, id.LocalPort)
	if a := dst.Addr(); dst.Port() == dnsPort && (a == Gateway4 || a == Gateway6) {
		n.acceptDNS(r)
		return
	}
	f := n.describe(egress.TCP, dst)
	v, ok := n.decide(f)
	if !ok {
		r.Complete(true)
		return
	}
	fl, ok := n.begin(f, egress.Out, v)
	if !ok {
		r.Complete(true)
		return
	}
	defer n.end(fl)
	up := upstream{fl: fl}
	defer up.close()
	if err := up.connect(); err != nil {
		r.Complete(true)
		return
	}
	if client := fl.accept(r); client != nil {
		n.serveTCP(fl, client, &up)
	}
}

// serveTCP carries what the box and the host's side say. It owns client.
func (n *Network) serveTCP(fl *flow, client *boxConn, up *upstream) {
	defer client.linger() // before the flow ends, and gives up its place
	defer client.Close()
	if fl.guarded || n.gate.wants(fl.Names) {
		fl.settle(n.gate.guard(fl.ctx, fl.Flow, client, up.dial))
		return
	}
	server, err := up.dial(fl.ctx)
	if err != nil {
		client.Reset()
		return
	}
	fl.onReset(server.Reset) // a client that has said all would not pass it on
	relay(client, server)
}

// accept completes the box's connect; nil means that the box has given up.
func (f *flow) accept(r *tcp.ForwarderRequest) *boxConn {
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	c := newBoxConn(ep, queue, &f.traffic, bufferSize(f.open))
	f.onReset(c.Reset)
	return c
}

// upstream makes the connections of a flow on the host's side. The first is made
// before the box's connect is answered.
type upstream struct {
	fl *flow

	mu    sync.Mutex
	ready conn
}

// connect makes the first connection.
func (u *upstream) connect() error {
	c, err := u.fresh(u.fl.ctx)
	if err == nil {
		u.ready = c
	}
	return err
}

// dial returns the first connection, and then others to the same address.
func (u *upstream) dial(ctx context.Context) (conn, error) {
	u.mu.Lock()
	c := u.ready
	u.ready = nil
	u.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return u.fresh(ctx)
}

func (u *upstream) fresh(ctx context.Context) (conn, error) {
	c, err := dialHost(ctx, "tcp", u.fl.net.target(u.fl.Dst))
	if err != nil {
		return nil, err
	}
	return newHostConn(c)
}

// close closes the first connection if nobody took it.
func (u *upstream) close() {
	if u.ready != nil {
		u.ready.Reset()
	}
}
