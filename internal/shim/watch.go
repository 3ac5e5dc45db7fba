package shim

import (
	"context"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

const (
	// pulse is how often an agent is asked for a sign of life. A ping costs
	// the machine two milliseconds, so an idle box stays idle.
	pulse = 30 * time.Second
	// again is when it is asked once more after it has missed one.
	again = 5 * time.Second
	// pulseTimeout is far beyond what a host that is merely busy needs: under
	// a load of ten a core, pings took 50 ms. To end a box that would have
	// answered is worse than to let a caller of a bad one wait.
	pulseTimeout = 15 * time.Second
	// maxMissed is how many signs may be missed in a row.
	maxMissed = 2
)

// watchAgent ends a box whose agent does not answer: root in the box can stop
// the agent, and with it the deadlines of commands, so without this a caller
// could wait for ever. It returns when the box ends. While nothing has run in
// the box and nobody has turned to the agent since it last answered, it is not
// asked. Between two looks the part of the program that they need is given
// back.
//
// A box whose home somebody has deleted ends too: nobody can reach it any more.
func (o *owner) watchAgent(ctx context.Context) {
	var last sign
	for missed, wait := 0, pulse; missed < maxMissed && pause(ctx, wait); {
		if o.lock.Removed() {
			o.end(ending{state: Failed, reason: "its directory was deleted", discard: true})
			return
		}
		if now := o.sign(); missed > 0 || !o.leftAlone(now, last) {
			last = sign{}
			if o.answers(ctx) {
				missed, wait = 0, pulse
				if !pause(ctx, settle) {
					return
				}
				last = sign{o.sign().activity, now.dials} // whoever has dialled since may wait
				o.woke(now.activity, last.activity)
			} else {
				missed, wait = missed+1, again
			}
		}
		hostos.OwnText().Trim()
	}
	if ctx.Err() == nil {
		o.end(ending{state: Failed, reason: "its agent did not answer"})
	}
}

// leftAlone tells whether nothing has happened since the sign last, or but for
// what took the box to rest: that includes an answer of the agent.
func (o *owner) leftAlone(now, last sign) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return now.activity != 0 && now.dials == last.dials && (now.activity == last.activity || now.activity == o.saved)
}

// woke notes that we ourselves took a calm box from one activity to another.
// Whether it is at rest is for a save to find out: something else may have run
// meanwhile.
func (o *owner) woke(before, after uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if before == o.calm {
		o.calm = after
	}
}

// sign is what changes when anything that concerns the agent has happened.
type sign struct {
	activity uint64 // 0: not known
	dials    int
}

func (o *owner) sign() sign {
	var s sign
	if d, ok := o.machine.(engine.DiskSaver); ok {
		s.activity = d.Activity()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	s.dials = o.dials
	return s
}

func (o *owner) countDial() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dials++
}

// answers asks the agent once. An agent that is paused for a save is excused.
func (o *owner) answers(ctx context.Context) bool {
	return o.ask(ctx, pulseTimeout) || !o.savingSince().IsZero()
}

// ask asks the agent for a sign of life.
func (o *owner) ask(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return o.ping(ctx) == nil
}
