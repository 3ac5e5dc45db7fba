package boxlite

import (
	"context"
	"slices"
	"sync"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// outputPart is a piece of output, or what is said about its absence.
type outputPart struct {
	channel byte
	data    []byte
	buf     *outputBuffer // that data is in; nil: in one of its own
	gap     *rest.Frame
}

// outputBuffer is as large as what servers send in one message.
type outputBuffer [64 << 10]byte

var outputBuffers = sync.Pool{New: func() any { return new(outputBuffer) }}

// smallPart is so little that it must not keep a buffer, in bytes.
const smallPart = 8 << 10

// partOf is what has been read into a buffer, and has the buffer or gives it back.
func partOf(channel byte, buf *outputBuffer, n int) outputPart {
	p := outputPart{channel: channel, data: buf[:n], buf: buf}
	if n < smallPart {
		p.data = slices.Clone(p.data)
		p.done()
	}
	return p
}

// done gives back the buffer.
func (p *outputPart) done() {
	if p.buf != nil {
		outputBuffers.Put(p.buf)
		p.buf = nil
	}
}

// backlog is output that has come and is not written yet.
type backlog struct {
	mu      sync.Mutex
	changed sync.Cond // broadcast at each change of what follows
	parts   []outputPart
	size    int  // of parts, in bytes
	ended   bool // nothing comes any more
	halted  bool // nobody wants it any more
}

const (
	// maxBacklog bounds a backlog, in bytes: as much as a box keeps of the output
	// of a command whose caller is slow, here or there.
	maxBacklog = 1 << 20
	// partCost is about what a part takes besides its data, so that many small ones
	// are bounded too.
	partCost = 64
)

func newBacklog() *backlog {
	b := &backlog{}
	b.changed.L = &b.mu
	return b
}

// add waits for room.
func (b *backlog) add(p outputPart) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.fullLocked() {
		b.changed.Wait()
	}
	if b.halted {
		return
	}
	defer b.changed.Broadcast()
	if n := len(b.parts); n > 0 && p.gap == nil && p.buf == nil {
		if last := &b.parts[n-1]; last.gap == nil && last.channel == p.channel && len(last.data)+len(p.data) <= len(outputBuffer{}) {
			last.data = append(last.data, p.data...)
			b.size += len(p.data)
			return
		}
	}
	b.parts = append(b.parts, p)
	b.size += len(p.data) + partCost
}

// full tells whether add would wait.
func (b *backlog) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fullLocked()
}

func (b *backlog) fullLocked() bool { return b.size >= maxBacklog && !b.halted }

// next waits for the next part. It is false when there will be none.
func (b *backlog) next() (p outputPart, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.parts) == 0 && !b.ended && !b.halted {
		b.changed.Wait()
	}
	if len(b.parts) == 0 || b.halted {
		return p, false
	}
	p, b.parts = b.parts[0], b.parts[1:]
	b.size -= len(p.data) + partCost
	b.changed.Broadcast()
	return p, true
}

// finish says that nothing comes any more.
func (b *backlog) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Broadcast()
}

// halt discards what there is, and what comes.
func (b *backlog) halt() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.halted, b.parts = true, nil
	b.changed.Broadcast()
}

// inputWindow keeps the input that is on its way to a command within what the server
// takes at once.
type inputWindow struct {
	more chan struct{} // gets something when there is room, one at most

	mu    sync.Mutex
	sent  int64
	given int64 // to the command, of what was sent
}

// claim waits until so many bytes may be sent. It is used by one goroutine.
func (w *inputWindow) claim(ctx context.Context, bytes int) error {
	for {
		w.mu.Lock()
		fits := w.sent-w.given+int64(bytes) <= rest.InputWindow
		if fits {
			w.sent += int64(bytes)
		}
		w.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-w.more:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// taken says how much the command has been given.
func (w *inputWindow) taken(bytes int64) {
	w.mu.Lock()
	w.given = max(w.given, bytes)
	w.mu.Unlock()
	select {
	case w.more <- struct{}{}:
	default:
	}
}
