package agent

import (
	"cmp"
	"slices"
	"sync"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// Bounds of what the agent keeps.
const (
	maxLive     = 1024     // executions that run
	maxEnded    = 64       // executions kept after their end
	maxEndedMem = 16 << 20 // bytes of output kept of those
)

// table is the executions an agent knows.
type table struct {
	mu      sync.Mutex
	closed  bool // by Shutdown: nothing starts any more
	live    int  // running, or about to
	byID    map[string]*execution
	ids     map[string]bool // taken: known, or about to start
	order   []*execution    // ended, oldest first
	orphans []group         // of forgotten executions, with members left
	streams int             // that follow an execution
	changed sync.Cond       // broadcast when streams gets less
}

func newTable() *table {
	t := &table{byID: make(map[string]*execution), ids: make(map[string]bool)}
	t.changed.L = &t.mu
	return t
}

// follow counts a stream that follows an execution, until leave.
func (t *table) follow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams++
}

func (t *table) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams--
	t.changed.Broadcast()
}

// waitLeft returns when no stream follows an execution, or stop is closed.
func (t *table) waitLeft(stop <-chan struct{}) {
	end := make(chan struct{})
	defer close(end)
	go func() { // ends with the call
		select {
		case <-stop:
		case <-end:
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		t.changed.Broadcast()
	}()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.streams > 0 && !closed(stop) {
		t.changed.Wait()
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// reserve takes an id for an execution about to start; release or add follows.
func (t *table) reserve(id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return fail(guest.KindStopping, "the box is shutting down")
	case t.live >= maxLive:
		return fail(guest.KindBusy, "the box runs %d commands, the most it may", t.live)
	case t.ids[id]:
		return fail(guest.KindExists, "execution %s exists", id)
	}
	t.ids[id] = true
	t.live++
	return nil
}

func (t *table) release(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ids, id)
	t.live--
}

func (t *table) add(e *execution) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID[e.info.ID] = e
}

func (t *table) get(id string) (*execution, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.byID[id]
	if !ok {
		return nil, fail(guest.KindNoExecution, "no execution %s: it never was, or it ended and is no longer kept", id)
	}
	return e, nil
}

func (t *table) all() []*execution {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]*execution, 0, len(t.byID))
	for _, e := range t.byID {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *execution) int {
		return cmp.Or(a.info.Started.Compare(b.info.Started), cmp.Compare(a.info.ID, b.info.ID))
	})
	return all
}

// ended moves e among those kept and forgets the oldest over the bounds.
func (t *table) ended(e *execution) {
	t.mu.Lock()
	t.live--
	t.order = append(t.order, e)
	old := t.overLocked()
	t.mu.Unlock()
	for _, o := range old {
		o.drop()
		t.bury(o.group)
	}
}

// overLocked removes from the table what is over the bounds, oldest first. It
// keeps the last, and what somebody follows.
func (t *table) overLocked() (old []*execution) {
	count, bytes := len(t.order), int64(0)
	for _, e := range t.order {
		bytes += e.ringBytes()
	}
	last := t.order[len(t.order)-1]
	t.order = slices.DeleteFunc(t.order, func(e *execution) bool {
		if (count <= maxEnded && bytes <= maxEndedMem) || e == last || e.followed() {
			return false
		}
		count--
		bytes -= e.ringBytes()
		delete(t.byID, e.info.ID)
		delete(t.ids, e.info.ID)
		old = append(old, e)
		return true
	})
	return old
}

// bury removes the group of a forgotten execution, and of those before it.
// One that still has members is tried again at the next burial.
func (t *table) bury(g group) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orphans = append(t.orphans, g)
	t.orphans = slices.DeleteFunc(t.orphans, func(g group) bool { return g.remove() })
}

// close refuses what would start from now on.
func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}
