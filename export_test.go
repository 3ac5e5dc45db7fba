package boxlite

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
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

// Follow reads a log that is followed, from f on; open finds the one that has taken
// its place. files tells how many it has open.
func Follow(f *os.File, open func() (*os.File, error)) (r io.ReadCloser, files func() int) {
	l := &logReader{files: []*os.File{f}}
	none := &localBox{rt: &local{home: filepath.Dir(f.Name())}, id: "none"} // so that it ends
	l.Reader = &tailReader{b: none, ctx: context.Background(), f: f, l: l, open: open}
	return l, func() int { return len(l.files) }
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
