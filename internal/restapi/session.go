package restapi

import (
	"context"
	"slices"
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
	lost    bool      // the box knows it no more, and how it ended is not known
	removed bool      // by a client; kept so that it stays unknown
	reaped  string    // why the server ended it; empty: it did not
	begun   time.Time // zero: not started here
	touched time.Time // when a client last named it
	reaping reapStage
	release func() // gives back its place among the executions; nil: given
}

// sessions is all of them, and the followers they have.
type sessions struct {
	s   *Server
	max int // as maxSessions

	mu   sync.Mutex
	byID map[[2]string]*session // box, execution
}

func newSessions(s *Server) *sessions {
	return &sessions{s: s, max: maxSessions, byID: map[[2]string]*session{}}
}

// maxSessions bounds what is remembered of executions, about 300 bytes each,
// over all boxes. It is twice as many as may run by default, so that there is
// room for those that ended. What is forgotten is asked of its box instead,
// which keeps 64 that ended and at most 16 MiB of their output.
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
	x := newSession(box, f.cmd.ID())
	x.begun, x.release, x.parked = x.touched, release, f
	ss.mu.Lock()
	ss.byID[[2]string{box, x.id}] = x
	ss.mu.Unlock()
	ss.evict()
	f.park()
	ss.watch(x, f)
	return x
}

// restart is add for a main command that may have run before.
func (ss *sessions) restart(box string, f *follower, release func()) *session {
	if old := ss.get(box, f.cmd.ID()); old != nil {
		old.letGo()
		ss.drop(old)
	}
	return ss.add(box, f, release)
}

func newSession(box, id string) *session {
	return &session{box: box, id: id, sockets: map[*socket]bool{}, touched: time.Now()}
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
	key := [2]string{box, id}
	x := ss.byID[key]
	if x == nil {
		x = newSession(box, id)
		ss.byID[key] = x
	}
	ss.mu.Unlock()
	ss.evict()
	return x
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

// drop forgets x, and nothing that has taken its place: a main command has the
// same id each time.
func (ss *sessions) drop(x *session) {
	ss.mu.Lock()
	if key := [2]string{x.box, x.id}; ss.byID[key] == x {
		delete(ss.byID, key)
	}
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

// evict makes room when there are too many: it forgets those that were not
// used for longest, but none that runs and was started here, or is followed.
func (ss *sessions) evict() {
	ss.mu.Lock()
	over := len(ss.byID) > ss.max
	ss.mu.Unlock()
	if !over {
		return
	}
	all := ss.of("")
	slices.SortFunc(all, func(a, b *session) int { return a.lastTouch().Compare(b.lastTouch()) })
	left := len(all)
	for _, x := range all {
		if left <= ss.max*3/4 { // so that it is not done at each start
			return
		}
		if x.settled() {
			ss.drop(x)
			left--
		}
	}
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
