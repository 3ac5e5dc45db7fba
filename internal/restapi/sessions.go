package restapi

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
)

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
