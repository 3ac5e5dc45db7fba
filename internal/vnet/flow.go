package vnet

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

// flow is a connection, a UDP flow or a ping that was allowed, while it lasts.
type flow struct {
	egress.Flow
	traffic

	net       *Network
	direction egress.Direction
	guarded   bool // names are checked by guard
	open      int  // flows of this class when it began, itself included
	since     time.Time
	ctx       context.Context // ends when the flow is to end
	cancel    context.CancelCauseFunc

	mu      sync.Mutex
	verdict egress.Verdict
	host    string // that the client said
	ended   bool
	resets  []func()
}

// onReset adds what ends the flow at once. If it is already to end, reset is
// called instead, and the result is false.
func (f *flow) onReset(reset func()) bool {
	f.mu.Lock()
	ok := !f.ended
	if ok {
		f.resets = append(f.resets, reset)
	}
	f.mu.Unlock()
	if !ok {
		reset()
	}
	return ok
}

// reset ends the flow at once.
func (f *flow) reset(cause error) {
	f.mu.Lock()
	f.ended = true
	resets := f.resets
	f.resets = nil
	f.mu.Unlock()
	f.cancel(cause)
	for _, r := range resets {
		r()
	}
}

// event describes the flow.
func (f *flow) event() egress.Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := flowEvent(f.Flow, f.verdict)
	e.Direction = f.direction
	e.Name = cmp.Or(f.host, e.Name)
	return e
}

// settle takes over what was decided when the client had said its host. A refusal
// was recorded as such; that the flow began and ended is no other one.
func (f *flow) settle(host string, v egress.Verdict) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.host = host; v.Action == egress.Allow && !f.ended {
		f.verdict = v
	}
}

func flowEvent(f egress.Flow, v egress.Verdict) egress.Event {
	e := egress.Event{Kind: egress.KindFlow, Direction: egress.Out, Proto: f.Proto, Name: f.Host, Addr: f.Dst.String(), Verdict: v}
	if e.Name == "" && len(f.Names) > 0 {
		e.Name = f.Names[0]
	}
	if f.Dst.Port() == 0 {
		e.Addr = f.Dst.Addr().String()
	}
	return e
}

// describe says what the box is about to reach.
func (n *Network) describe(p egress.Proto, dst netip.AddrPort) egress.Flow {
	a := dst.Addr()
	return egress.Flow{
		Proto: p, Dst: dst, Names: n.resolver.names(a), Local: n.own.has(a), Alias: isAlias(a),
	}
}

// decide judges a flow and records a refusal.
func (n *Network) decide(f egress.Flow) (egress.Verdict, bool) {
	v := n.policy.Load().Decide(f)
	switch {
	case v.Action == egress.Allow, v.Action == egress.Sniff && f.Proto == egress.TCP:
		return v, true
	case v.Action == egress.Sniff: // nothing in it says a name
		v = egress.Verdict{Action: egress.Deny, Rule: v.Rule, Reason: egress.ReasonNoName}
	}
	n.note(flowEvent(f, v))
	return v, false
}

// begin enters a flow that was allowed. Its end must be told to end. It fails when
// there are too many, which it records, or the network is closed, or the policy
// has changed meanwhile.
func (n *Network) begin(f egress.Flow, d egress.Direction, v egress.Verdict) (*flow, bool) {
	fl := &flow{Flow: f, net: n, direction: d, verdict: v, since: time.Now(), guarded: v.Action == egress.Sniff}
	fl.whole = &n.traffic
	ctx, cancel := context.WithCancelCause(n.ctx)
	fl.ctx, fl.cancel = ctx, cancel

	n.mu.Lock()
	count := &n.open[classOf(f.Proto)]
	full := count.now >= count.most
	ok := !n.closed && !full
	if ok {
		n.wg.Add(1) // end tells
		count.now++
		fl.open = count.now
		n.flows[fl] = struct{}{}
	}
	n.mu.Unlock()
	switch {
	case full:
		e := flowEvent(f, egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonLimit})
		e.Direction = d
		n.note(e)
		fallthrough
	case !ok:
		cancel(ErrClosed)
		return nil, false
	}
	n.connections.Add(1)
	n.note(fl.event())
	n.enforce(fl, n.policy.Load()) // SetPolicy may have been before it was entered
	return fl, true
}

// end takes a flow out, and records what it came to.
func (n *Network) end(fl *flow) {
	e := fl.event()
	e.Closed = true
	e.Sent, e.Received = int64(fl.sent.Load()), int64(fl.received.Load())
	e.Duration = time.Since(fl.since)
	n.note(e)
	fl.cancel(nil)
	n.mu.Lock()
	delete(n.flows, fl)
	n.open[classOf(fl.Proto)].now--
	n.mu.Unlock()
	n.wg.Done()
}

// enforce resets a flow of the box that the policy refuses. One whose client says
// a name is left to the gate, unless the policy refuses it whatever the name.
func (n *Network) enforce(fl *flow, p *egress.Policy) {
	if fl.direction == egress.In {
		return
	}
	v := p.Decide(fl.Flow)
	if v.Action == egress.Allow || (v.Action == egress.Sniff && fl.guarded) {
		return
	}
	if v.Action == egress.Sniff {
		v.Action, v.Reason = egress.Deny, egress.ReasonNoName
	}
	fl.mu.Lock()
	again := fl.ended
	fl.verdict = v
	fl.mu.Unlock()
	if !again {
		n.note(fl.event())
		fl.reset(errRefused)
	}
}

// class is what flows are counted by.
type class uint8

const (
	classTCP class = iota
	classUDP
	classPing
	classes
)

func classOf(p egress.Proto) class {
	switch p {
	case egress.UDP:
		return classUDP
	case egress.ICMP:
		return classPing
	}
	return classTCP
}

// tally is how many flows of a class there are, and may be.
type tally struct{ now, most int }
