package vnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

// ownFresh is how long the list of the host's addresses is used. Making it takes
// some 0.1 ms, too much for every connection; an address that the host got a
// moment ago is a risk for these seconds.
const ownFresh = 5 * time.Second

// own knows the addresses of the host. The zero value is ready.
type own struct {
	mu    sync.Mutex
	until time.Time
	addrs map[netip.Addr]bool
}

// has tells whether a is an address of the host, in whatever form. If the host
// does not say, every address is taken for one: what is refused then is seen,
// what is let through is not.
func (o *own) has(a netip.Addr) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := time.Now(); now.After(o.until) {
		o.until = now.Add(ownFresh)
		o.addrs = ownAddrs()
	}
	return o.addrs == nil || slices.ContainsFunc(egress.Forms(a), func(f netip.Addr) bool { return o.addrs[f] })
}

func ownAddrs() map[netip.Addr]bool {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	m := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			m[p.Addr().Unmap()] = true
		}
	}
	return m
}

// dialHost connects to exactly the address that was decided on.
func dialHost(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		Timeout: connectTimeout,
		Control: func(_, address string, _ syscall.RawConn) error {
			if got, err := netip.ParseAddrPort(address); err != nil || got != to {
				return fmt.Errorf("connecting to %s where %s was decided on", address, to)
			}
			return nil
		},
	}
	return d.DialContext(ctx, network, to.String())
}
