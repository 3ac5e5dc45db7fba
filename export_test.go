package boxlite

import (
	"context"
	"net"
	"time"
)

// Datagrams carries datagrams over a stream, as a connection to a port of UDP does
// that goes through a server.
func Datagrams(stream interface {
	net.Conn
	CloseWrite() error
},
) net.Conn {
	return &datagrams{boxStream: stream}
}

// Lease has the runtime of a server open its lease, as what starts a box does that
// has just found it open.
func Lease(ctx context.Context, rt *Runtime) error {
	_, err := rt.on.(*remote).leaseHeader(ctx)
	return err
}

// ForgetEnded has a runtime of this host forget boxes that ended by themselves, as
// at that time, and returns how many it remembers.
func ForgetEnded(rt *Runtime, at time.Time) int {
	r := rt.on.(*local)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetEndedLocked(at)
	return len(r.shims)
}
