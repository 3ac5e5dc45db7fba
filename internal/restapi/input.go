package restapi

import (
	"context"
	"io"
	"sync"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// maxInput is how much input may wait for a command, in bytes, before its
// client is read no more: several times what people paste, and what a box
// takes on its way besides.
const maxInput = 256 << 10

// Of the input of a client that is told what was taken, this much may wait. Such a
// client has half of it on its way at most, and others may have been there before
// it: so it is always read, and its pings and answers are seen.
const (
	maxTold   = 2 * rest.InputWindow
	tellEvery = rest.InputWindow / 16 // bytes; so that single characters are not told
)

// maxPiece is how much is passed on at a time, in bytes: what a command takes slowly
// is told bit by bit.
const maxPiece = 128 << 10

// input is what clients have sent to a command and it has not read. While it
// is not full its client can be listened to: for signals, and for the answers
// that tell it lives.
type input struct {
	mu      sync.Mutex
	changed sync.Cond // broadcast at each change of what follows
	buf     []byte
	moving  int    // bytes on their way to the command
	came    int64  // bytes of all clients together
	gone    int64  // of these, bytes that the command has been given
	eof     bool   // nothing comes after buf
	passed  bool   // all has been passed on, the end too
	over    bool   // the stream has ended: what comes is discarded
	idle    func() // called once when nothing waits; nil: nobody wants to know
}

func newInput() *input {
	in := &input{}
	in.changed.L = &in.mu
	return in
}

// put adds p, whatever its length, once less than most waits. It waits for as long
// as ctx lives.
func (in *input) put(ctx context.Context, p []byte, most int) {
	stop := context.AfterFunc(ctx, in.wake)
	defer stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.fullLocked(most) && ctx.Err() == nil {
		in.changed.Wait()
	}
	if in.over || in.eof || ctx.Err() != nil {
		return
	}
	in.buf = append(in.buf, p...)
	in.came += int64(len(p))
	in.changed.Broadcast()
}

// arrived is how many bytes have come.
func (in *input) arrived() int64 {
	if in == nil {
		return 0
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.came
}

// taken waits until the command has been given that many bytes, and returns how
// many it has. It is false when that will not be, or ctx has ended.
func (in *input) taken(ctx context.Context, bytes int64) (int64, bool) {
	stop := context.AfterFunc(ctx, in.wake)
	defer stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.gone < bytes && !in.over && ctx.Err() == nil {
		in.changed.Wait()
	}
	return in.gone, in.gone >= bytes && ctx.Err() == nil
}

func (in *input) wake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changed.Broadcast()
}

// full tells whether put would wait.
func (in *input) full(most int) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fullLocked(most)
}

func (in *input) fullLocked(most int) bool { return len(in.buf)+in.moving >= most && !in.over }

// close says that no more will come.
func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.eof = true
	in.changed.Broadcast()
}

// end says that the stream has ended.
func (in *input) end() {
	in.mu.Lock()
	in.over, in.buf = true, nil
	in.changed.Broadcast()
	in.mu.Unlock()
	in.settle()
}

// drained calls f, once, as soon as nothing waits to be passed on.
func (in *input) drained(f func()) {
	in.mu.Lock()
	in.idle = f
	in.mu.Unlock()
	in.settle()
}

func (in *input) settle() {
	in.mu.Lock()
	f := in.idle
	waits := !in.over && (in.moving+len(in.buf) > 0 || in.eof && !in.passed)
	if f == nil || waits {
		in.mu.Unlock()
		return
	}
	in.idle = nil
	in.mu.Unlock()
	f()
}

// next waits for the next piece; nil is the end.
func (in *input) next() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.buf) == 0 && !in.eof && !in.over {
		in.changed.Wait()
	}
	p := in.buf[:min(len(in.buf), maxPiece)]
	if in.moving = len(p); in.moving == len(in.buf) {
		in.buf = nil
	} else {
		in.buf = in.buf[in.moving:]
	}
	return p
}

func (in *input) moved() {
	in.mu.Lock()
	in.gone += int64(in.moving)
	in.moving = 0
	in.changed.Broadcast()
	in.mu.Unlock()
	in.settle()
}

// WriteTo passes input on until its end. A command that reads it with io.Copy
// does so here. It closes w itself: only so it is known when the end of the
// input is on its way, and the stream may be let go of.
func (in *input) WriteTo(w io.Writer) (n int64, err error) {
	for p := in.next(); p != nil; p = in.next() {
		m, err := w.Write(p)
		n += int64(m)
		in.moved()
		if err != nil { // the command need not read it
			in.end()
			return n, nil
		}
	}
	in.mu.Lock()
	over := in.over
	in.mu.Unlock()
	if c, ok := w.(io.Closer); ok && !over {
		c.Close()
	}
	in.mu.Lock()
	in.passed = true
	in.mu.Unlock()
	in.settle()
	return n, nil
}

// Read is there for the type alone: io.Copy calls WriteTo.
func (in *input) Read([]byte) (int, error) { return 0, io.ErrNoProgress }
