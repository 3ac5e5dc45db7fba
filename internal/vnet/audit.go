package vnet

import (
	"strconv"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/boxlite-go/boxlite/egress"
)

// recorder numbers events and hands them on, one at a time.
type recorder struct {
	events chan egress.Event
	stop   chan struct{} // closed when no event comes any more
	done   chan struct{}
}

func newRecorder(record func(egress.Event)) *recorder {
	r := &recorder{make(chan egress.Event, maxEvents), make(chan struct{}), make(chan struct{})}
	if record == nil {
		close(r.done)
		r.events = nil
		return r
	}
	go r.run(record) // close waits for it
	return r
}

func (r *recorder) run(record func(egress.Event)) {
	defer close(r.done)
	var seq uint64
	hand := func(e egress.Event) {
		seq++
		e.Seq = seq
		record(e)
	}
	for {
		select {
		case e := <-r.events:
			hand(e)
		case <-r.stop:
			for {
				select {
				case e := <-r.events:
					hand(e)
				default:
					return
				}
			}
		}
	}
}

// add waits while the recorder is behind: nothing goes unrecorded, rather the box
// is slowed down.
func (r *recorder) add(e egress.Event) {
	if r.events == nil {
		return
	}
	e.Time, e.Name = time.Now(), printable(e.Name)
	select {
	case r.events <- e:
	case <-r.done:
	}
}

// maxShown is how much of a name an event has, in bytes: a whole one, if it is one.
// Who reads the log passes over lines that are much longer, so a name must not make
// one.
const maxShown = 253

// printable makes what a box called a name fit for a log.
func printable(s string) string {
	q := strconv.Quote(strings.TrimSuffix(s, "."))
	q = q[1 : len(q)-1]
	if len(q) > maxShown {
		q = strings.ToValidUTF8(q[:maxShown], "") + "..."
	}
	return q
}

// close waits until all events are recorded.
func (r *recorder) close() {
	close(r.stop)
	<-r.done
}

// note counts an event and records it.
func (n *Network) note(e egress.Event) {
	if e.Action == egress.Deny {
		n.refusals.Add(1)
	}
	n.recorder.add(e)
}

// spoof records a packet that is not from the box's address, one a second: the
// box can make any number of them, and each is dropped.
func (n *Network) spoof(frame []byte) {
	now := time.Now()
	if last := n.spoofed.Load(); now.UnixNano()-last < int64(spoofNote) || !n.spoofed.CompareAndSwap(last, now.UnixNano()) {
		n.refusals.Add(1)
		return
	}
	to, proto := destination(frame)
	e := egress.Event{
		Kind: egress.KindFlow, Direction: egress.Out, Addr: to.String(),
		Verdict: egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonSource},
	}
	switch proto {
	case uint8(header.TCPProtocolNumber):
		e.Proto = egress.TCP
	case uint8(header.UDPProtocolNumber):
		e.Proto = egress.UDP
	case uint8(header.ICMPv4ProtocolNumber), uint8(header.ICMPv6ProtocolNumber):
		e.Proto = egress.ICMP
	}
	n.note(e)
}
