package agent

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// pumpBuffer is how much a pump takes from a pipe at once: large, since a
// system call in a sandbox costs as much as copying tens of kilobytes.
const pumpBuffer = 256 << 10

// buffers are lent to pumps and senders only while they hold data, so that a
// thousand idle commands cost none.
var buffers = sync.Pool{New: func() any { b := make([]byte, pumpBuffer); return &b }}

// exitGrace is how long the exit of a command waits for the end of its output
// while something else still holds the pipe. See os/exec.Cmd.WaitDelay.
const exitGrace = 100 * time.Millisecond

// pump moves one output of a command from its pipe or terminal to its ring.
type pump struct {
	f    *os.File // non-blocking
	ring *ring
	eof  chan struct{} // closed when nothing will come any more

	mu    sync.Mutex
	taken int64 // bytes read from f so far
}

func newPump(f *os.File, keep int64) *pump {
	return &pump{f: f, ring: newRing(keep), eof: make(chan struct{})}
}

// run pumps until the end of the output or until drop. It owns p.f.
func (p *pump) run() {
	defer close(p.eof)
	defer p.f.Close()
	defer p.ring.close()
	rc, err := p.f.SyscallConn()
	if err != nil {
		return
	}
	for more := true; more; {
		var buf *[]byte
		n := 0
		err := rc.Read(func(fd uintptr) bool {
			buf = buffers.Get().(*[]byte)
			n, more = p.take(int(fd), *buf)
			if n == 0 {
				buffers.Put(buf)
			}
			return n > 0 || !more
		})
		if err != nil {
			return // drop closed it
		}
		if n > 0 {
			p.ring.write((*buf)[:n])
			buffers.Put(buf)
		}
	}
}

// take reads once. more is false at the end; a terminal ends with an error.
func (p *pump) take(fd int, buf []byte) (n int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return 0, true
		case err != nil || n <= 0:
			return 0, false
		}
		p.taken += int64(n)
		return n, true
	}
}

// flush waits until all that the command had written when flush was called is
// in the ring, and until the end of the output or the end of grace.
func (p *pump) flush(grace <-chan struct{}) {
	p.ring.waitWritten(p.due())
	select {
	case <-p.eof:
	case <-grace:
		p.ring.waitWritten(p.due())
	}
}

// due is the offset up to which the command has written.
func (p *pump) due() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	due := p.taken
	rc, err := p.f.SyscallConn()
	if err != nil {
		return due
	}
	_ = rc.Control(func(fd uintptr) {
		if n, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			due += int64(n)
		}
	})
	return due
}

// drop forgets the output and ends run.
func (p *pump) drop() {
	p.ring.drop()
	p.f.Close()
}
