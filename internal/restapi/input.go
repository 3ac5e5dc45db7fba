package restapi

import (
	"context"
	"io"
	"sync"
)

// maxInput is how much input may wait for a command, in bytes, before its
// client is read no more: several times what people paste, and what a box
// takes on its way besides.
const maxInput = 256 << 10

// input is what clients have sent to a command and it has not read. While it
// is not full its client can be listened to: for signals, and for the answers
// that tell it lives.
type input struct {
	mu      sync.Mutex
	changed sync.Cond // broadcast at each change of what follows
	buf     []byte
	moving  int    // bytes on their way to the command
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

// put adds p once there is room, whatever its length. It waits for as long as
// ctx lives.
func (in *input) put(ctx context.Context, p []byte) {
	stop := context.AfterFunc(ctx, in.wake)
	defer stop()
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.fullLocked() && ctx.Err() == nil {
		in.changed.Wait()
	}
	if in.over || in.eof || ctx.Err() != nil {
		return
	}
	in.buf = append(in.buf, p...)
	in.changed.Broadcast()
}

func (in *input) wake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changed.Broadcast()
}

// full tells whether put would wait.
func (in *input) full() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.fullLocked()
}

func (in *input) fullLocked() bool { return len(in.buf)+in.moving >= maxInput && !in.over }

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
	p := in.buf
	in.buf, in.moving = nil, len(p)
	return p
}

func (in *input) moved() {
	in.mu.Lock()
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
