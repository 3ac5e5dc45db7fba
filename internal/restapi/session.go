package restapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
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
	removed bool
	touched time.Time
	release func() // gives back its place among the executions; nil: given
}

// sessions is all of them, and the followers they have.
type sessions struct {
	s *Server

	mu   sync.Mutex
	byID map[[2]string]*session // box, execution
}

func newSessions(s *Server) *sessions {
	return &sessions{s: s, byID: map[[2]string]*session{}}
}

// maxSessions bounds what is remembered of executions that ended. What is over
// it is asked of the box instead.
const maxSessions = 8192

// keepEnded is how long the end of an execution is remembered after its last
// use: for a client that lost its connection at the wrong moment.
const keepEnded = 5 * time.Minute

// follower makes a stream for a request. It outlives the request, and ends with
// the server.
func (ss *sessions) follower(ctx context.Context, b *boxlite.Box) *follower {
	return newFollower(outliving{ss.s.ctx, context.WithoutCancel(ctx)}, b)
}

// outliving is a context with the end of one, and the values of a request: what
// it began stays in its trace.
type outliving struct {
	context.Context //nolint:containedctx // it is one

	request context.Context //nolint:containedctx // without its end
}

func (o outliving) Value(key any) any {
	if v := o.request.Value(key); v != nil {
		return v
	}
	return o.Context.Value(key)
}

// add makes the session of a command that was started, with its stream waiting
// for a client.
func (ss *sessions) add(box string, f *follower, release func()) *session {
	x := &session{box: box, id: f.cmd.ID(), sockets: map[*socket]bool{}, touched: time.Now(), release: release, parked: f}
	ss.mu.Lock()
	ss.byID[[2]string{box, x.id}] = x
	over := len(ss.byID) > maxSessions
	ss.mu.Unlock()
	if over {
		ss.evict()
	}
	f.park()
	ss.watch(x, f)
	return x
}

// restart is add for a main command that may have run before.
func (ss *sessions) restart(box string, f *follower, release func()) *session {
	if old := ss.get(box, f.cmd.ID()); old != nil {
		old.unpark(nil)
		ss.drop(old)
	}
	return ss.add(box, f, release)
}

// watch waits for the end of a stream. The goroutine ends with the stream.
func (ss *sessions) watch(x *session, f *follower) {
	ss.s.wg.Go(func() {
		f.wait()
		x.ended(f)
	})
}

// adopt makes the session of an execution that somebody else started.
func (ss *sessions) adopt(box, id string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	key := [2]string{box, id}
	if ss.byID[key] == nil {
		ss.byID[key] = &session{box: box, id: id, sockets: map[*socket]bool{}, touched: time.Now()}
	}
	return ss.byID[key]
}

func (ss *sessions) get(box, id string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.byID[[2]string{box, id}]
}

// of returns the sessions of one box, or all of them for "".
func (ss *sessions) of(box string) (out []*session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, x := range ss.byID {
		if box == "" || key[0] == box {
			out = append(out, x)
		}
	}
	return out
}

// forget drops the sessions of a box that is gone. Sockets that are open end
// by themselves.
func (ss *sessions) forget(box string) {
	for _, x := range ss.of(box) {
		x.delete()
		ss.drop(x)
	}
}

func (ss *sessions) drop(x *session) {
	ss.mu.Lock()
	delete(ss.byID, [2]string{x.box, x.id})
	ss.mu.Unlock()
	x.giveBack()
}

// release lets go of streams of a box that nobody follows: a box that stops
// would wait for them.
func (ss *sessions) release(box string) {
	for _, x := range ss.of(box) {
		x.letGo()
	}
}

// closeAll ends all sockets and streams. Commands go on.
func (ss *sessions) closeAll() {
	for _, x := range ss.of("") {
		x.letGo()
		for _, k := range x.open() {
			k.goAway()
		}
	}
}

// evict forgets sessions of executions that ended and nobody follows, also
// before their time.
func (ss *sessions) evict() {
	for _, x := range ss.of("") {
		if x.idle() && x.result() != nil {
			ss.drop(x)
		}
	}
}

// sweep forgets what is old, and finds out what ended unseen.
func (ss *sessions) sweep(ctx context.Context) {
	for _, x := range ss.of("") {
		if !x.idle() || time.Since(x.lastTouch()) < keepEnded && x.result() != nil {
			continue
		}
		if x.result() == nil && !ss.endedUnseen(ctx, x) {
			continue
		}
		if time.Since(x.lastTouch()) >= keepEnded {
			ss.drop(x)
		}
	}
}

// endedUnseen asks the box about an execution that no stream follows.
func (ss *sessions) endedUnseen(ctx context.Context, x *session) bool {
	ctx, cancel := context.WithTimeout(ctx, tickEvery)
	defer cancel()
	b, err := ss.s.rt.Box(ctx, x.box)
	if errors.Is(err, boxlite.ErrNotFound) {
		x.giveBack()
		return true
	}
	if err != nil {
		return false
	}
	e, err := b.Execution(ctx, x.id)
	switch {
	case errors.Is(err, boxlite.ErrNotFound), errors.Is(err, boxlite.ErrState), errors.Is(err, boxlite.ErrBoxDied):
		x.giveBack()
		return true
	case err != nil, e.ExitCode == nil:
		return false
	}
	x.set(exitKnown(e))
	return true
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
	return x.parked == nil && x.retired == nil && len(x.sockets) == 0
}

func (x *session) deleted() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.removed
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

func (x *session) enter(k *socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sockets[k] = true
	x.touched = time.Now()
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
