package image

import (
	"sync"
	"sync/atomic"
	"time"
)

// Progress is one moment of a pull or load.
type Progress struct {
	Ref    string
	Phase  string // "resolve", "download", "unpack", "done"
	Done   int64  // bytes of layers, compressed, in this phase
	Total  int64  // bytes; 0 until it is known
	Layers int
}

// reportEvery bounds how often a caller hears of progress.
const reportEvery = 100 * time.Millisecond

// reporter calls a function of the caller from one goroutine. A nil call makes
// it do nothing.
type reporter struct {
	ref      string
	call     func(Progress)
	total    atomic.Int64
	layers   atomic.Int64
	loaded   atomic.Int64 // bytes here
	unpacked atomic.Int64
	done     chan struct{}
	wg       sync.WaitGroup
}

func newReporter(ref string, call func(Progress)) *reporter {
	r := &reporter{ref: ref, call: call, done: make(chan struct{})}
	if call != nil {
		r.wg.Go(r.run) // stop waits for it
	}
	return r
}

func (r *reporter) run() {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var last Progress
	for {
		if now := r.now(); now != last {
			r.call(now)
			last = now
		}
		select {
		case <-tick.C:
		case <-r.done:
			return
		}
	}
}

func (r *reporter) now() Progress {
	p := Progress{Ref: r.ref, Total: r.total.Load(), Layers: int(r.layers.Load())}
	switch loaded := r.loaded.Load(); {
	case p.Total == 0:
		p.Phase = "resolve"
	case loaded < p.Total:
		p.Phase, p.Done = "download", loaded
	default:
		p.Phase, p.Done = "unpack", min(r.unpacked.Load(), p.Total)
	}
	return p
}

// begin starts over with an image of so many bytes.
func (r *reporter) begin(total int64, layers int) {
	r.loaded.Store(0)
	r.unpacked.Store(0)
	r.layers.Store(int64(layers))
	r.total.Store(total)
}

// stop ends the calls, with a last one if all went well.
func (r *reporter) stop(ok bool) {
	if r.call == nil {
		return
	}
	close(r.done)
	r.wg.Wait()
	if ok {
		total := r.total.Load()
		r.call(Progress{Ref: r.ref, Phase: "done", Done: total, Total: total, Layers: int(r.layers.Load())})
	}
}
