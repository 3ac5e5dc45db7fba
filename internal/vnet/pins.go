package vnet

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// answerTTL is what every answer says, in seconds. The resolver of the
	// host does not tell how long its answer holds; it keeps it, so that
	// asking again is cheap.
	answerTTL = 30

	// pinLife is how long an address may be reached under a name after it was
	// given out. Programs keep addresses for longer than they are told to.
	pinLife = answerTTL*time.Second + 5*time.Minute

	// maxPins bounds pairs of name and address, and maxNames those of one
	// address: many hosts lie behind one, but a decision looks at each name. A
	// flow keeps its names, so giving up a pin harms no connection, only new
	// ones to what was looked up longest ago.
	maxPins  = 4096
	maxNames = 128
)

// pins remembers under which names addresses were given out.
type pins struct {
	mu   sync.Mutex
	byIP map[netip.Addr][]*list.Element
	all  list.List // of *pin, what was given out longest ago in front
}

type pin struct {
	addr netip.Addr
	name string
	end  time.Time
}

// add pins a to name from now on.
func (p *pins) add(name string, a netip.Addr) {
	a = a.Unmap()
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.byIP == nil {
		p.byIP = map[netip.Addr][]*list.Element{}
	}
	for _, e := range p.byIP[a] {
		if q := e.Value.(*pin); q.name == name {
			q.end = now.Add(pinLife)
			p.all.MoveToBack(e)
			return
		}
	}
	p.byIP[a] = append(p.byIP[a], p.all.PushBack(&pin{a, name, now.Add(pinLife)}))
	if of := p.byIP[a]; len(of) > maxNames {
		p.dropLocked(slices.MinFunc(of, func(x, y *list.Element) int {
			return x.Value.(*pin).end.Compare(y.Value.(*pin).end)
		}))
	}
	for e := p.all.Front(); e != nil && (p.all.Len() > maxPins || !now.Before(e.Value.(*pin).end)); e = p.all.Front() {
		p.dropLocked(e)
	}
}

func (p *pins) dropLocked(e *list.Element) {
	q := p.all.Remove(e).(*pin)
	rest := slices.DeleteFunc(p.byIP[q.addr], func(o *list.Element) bool { return o == e })
	if p.byIP[q.addr] = rest; len(rest) == 0 {
		delete(p.byIP, q.addr)
	}
}

// names returns the names under which a was given out, sorted.
func (p *pins) names(a netip.Addr) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, e := range p.byIP[a.Unmap()] {
		if q := e.Value.(*pin); now.Before(q.end) {
			names = append(names, q.name)
		}
	}
	slices.Sort(names)
	return names
}
