package restapi

import (
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// session is what the server knows of one execution.
type session struct {
	box, id string

	mu      sync.Mutex
	parked  *follower // a stream that waits for a client; nil: none
	retired *follower // one that still has input to deliver; nil: none
	writer  *socket   // the socket that may write, if any
	sockets map[*socket]bool
	exit    *exit
	lost    bool      // the box knows it no more, and how it ended is not known
	removed bool      // by a client; kept so that it stays unknown
	reaped  string    // why the server ended it; empty: it did not
	begun   time.Time // zero: not started here
	touched time.Time // when a client last named it
	reaping reapStage
	release func() // gives back its place among the executions; nil: given
}

func newSession(box, id string) *session {
	return &session{box: box, id: id, sockets: map[*socket]bool{}, touched: time.Now()}
}

// settled tells whether nothing is lost when the session is forgotten.
func (x *session) settled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.idleLocked() && (x.begun.IsZero() || x.lost || x.exit != nil)
}

// forgettable tells whether the session is of no more use. That of an execution
// that was taken from clients is: they are told what became of it.
func (x *session) forgettable(now time.Time) bool {
	x.mu.Lock()
	taken := x.removed || x.reaped != ""
	x.mu.Unlock()
	return !taken && x.settled() && now.Sub(x.lastTouch()) >= keepEnded
}

// ended is what happens when a stream is over.
func (x *session) ended(f *follower) {
	x.drop(f)
	if f.exit != nil {
		x.set(f.exit)
	}
}

// set remembers how the execution ended.
func (x *session) set(e *exit) {
	x.mu.Lock()
	if x.exit == nil {
		x.exit = e
	}
	x.touched = time.Now()
	x.mu.Unlock()
	x.giveBack()
}

// lose says that the box knows the execution no more.
func (x *session) lose() {
	x.mu.Lock()
	x.lost = true
	x.mu.Unlock()
	x.giveBack()
}

func (x *session) giveBack() {
	x.mu.Lock()
	release := x.release
	x.release = nil
	x.mu.Unlock()
	if release != nil {
		release()
	}
}

func (x *session) result() *exit {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.exit
}

func (x *session) lastTouch() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.touched
}

// idle tells whether no stream follows the execution.
func (x *session) idle() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.idleLocked()
}

func (x *session) idleLocked() bool {
	return x.parked == nil && x.retired == nil && len(x.sockets) == 0
}

// touch says that a client named the execution.
func (x *session) touch() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.touched = time.Now()
}

// delete makes the execution unknown to new requests.
func (x *session) delete() {
	x.mu.Lock()
	x.removed, x.touched = true, time.Now()
	x.mu.Unlock()
	x.letGo()
}

// letGo ends the streams that no socket follows.
func (x *session) letGo() {
	x.mu.Lock()
	streams := []*follower{x.parked, x.retired}
	x.parked, x.retired = nil, nil
	x.mu.Unlock()
	for _, f := range streams {
		if f != nil {
			f.letGo()
		}
	}
}

// unpark takes the stream that waits for its first client, if k may have it:
// nobody else can have what is in it.
func (x *session) unpark(k *socket) *follower {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.parked
	if f == nil || !f.untouched() || !k.wish.write || k.wish.from.StdoutFrom != 0 || k.wish.from.StderrFrom != 0 {
		return nil
	}
	x.parked = nil
	return f
}

// succeed retires the stream that waits, since another has its place.
func (x *session) succeed() {
	x.mu.Lock()
	f := x.parked
	x.parked = nil
	x.mu.Unlock()
	if f != nil {
		x.retire(f)
	}
}

// retire ends a stream when its input is delivered. There is one such at most,
// or a client that comes and goes could make the server keep any amount.
func (x *session) retire(f *follower) {
	x.mu.Lock()
	old := x.retired
	x.retired = f
	x.mu.Unlock()
	if old != nil && old != f {
		old.letGo()
	}
	f.retire()
	x.dropEnded(f)
}

// keep is what becomes of the stream of a socket that is gone. That of a writer
// without a successor waits for it to come back.
func (x *session) keep(k *socket, f *follower) {
	if f == nil {
		return
	}
	if !k.wish.write {
		f.letGo()
		return
	}
	x.mu.Lock()
	last := x.writer == k
	if last {
		x.parked = f
	}
	x.mu.Unlock()
	if !last {
		x.retire(f)
		return
	}
	f.park()
	x.dropEnded(f)
}

// dropEnded forgets a stream that ended while it was put aside.
func (x *session) dropEnded(f *follower) {
	select {
	case <-f.done:
		x.drop(f)
	default:
	}
}

func (x *session) drop(f *follower) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.parked == f {
		x.parked = nil
	}
	if x.retired == f {
		x.retired = nil
	}
}

func (x *session) open() (out []*socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := range x.sockets {
		out = append(out, k)
	}
	return out
}

// reply is what is known of an execution whose box knows it no more.
func (x *session) reply() rest.Execution {
	e := x.result()
	return rest.Execution{
		ExecutionID: x.id, Status: statusOf(e.cause), ExitCode: &e.code, Signal: e.signal, Cause: string(e.cause),
		ErrorMessage: message(e.cause, e.signal, e.reason),
	}
}

// claim makes a socket the one that writes. Another that does so already is
// asked for a sign of life first: its line may be dead.
func (x *session) claim(k *socket) error {
	x.mu.Lock()
	old := x.writer
	x.mu.Unlock()
	taken := old != nil && old.alive()
	x.mu.Lock()
	defer x.mu.Unlock()
	if taken || x.writer != nil && x.writer != old {
		return httpapi.InvalidState.Errorf("execution %q: another client is already attached; attach with stdin=0 to read only", x.id)
	}
	x.writer = k
	return nil
}

// enter adds a socket, unless the execution was taken from clients meanwhile.
func (x *session) enter(k *socket) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if err := x.goneLocked(); err != nil {
		return err
	}
	x.sockets[k] = true
	x.touched = time.Now()
	return nil
}

// leave takes a socket out.
func (x *session) leave(k *socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.sockets, k)
	x.touched = time.Now()
	if x.writer == k {
		x.writer = nil
	}
}
