package restapi

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// Limits bound what the server takes on. Zero fields have the defaults named.
type Limits struct {
	// Boxes is how many there may be, running or not. Default 10000.
	Boxes int
	// Running is how many may run. Default 256: at the 21 MiB an idle box
	// takes that is 5 GiB.
	Running int
	// MemoryMiB is what all running boxes together may have been promised.
	// Default four times what the host has: few boxes use what they may.
	MemoryMiB int64
	// Starts is how many may start side by side, while others wait in order.
	// Default the number of processors: a start keeps about one busy.
	Starts int
	// Waiting is how many may wait for their start. Default 1024.
	Waiting int
	// Executions is how many commands that were started over HTTP may run.
	// Default 4096.
	Executions int
	// Upload is the largest file or archive a client may send, in bytes.
	// Default 16 GiB.
	Upload int64
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Boxes, 10000)
	def(&l.Running, 256)
	def(&l.Starts, runtime.GOMAXPROCS(0))
	def(&l.Waiting, 1024)
	def(&l.Executions, 4096)
	if l.MemoryMiB == 0 {
		l.MemoryMiB = 4 * hostMemoryMiB()
	}
	if l.Upload == 0 {
		l.Upload = 16 << 30
	}
	return l
}

// hostMemoryMiB is what the host has.
func hostMemoryMiB() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 4 << 10 // as a small machine
	}
	return int64(info.Totalram) * int64(info.Unit) >> 20
}

// Times of admission.
const (
	// startWait is how long a start waits for its turn. With two starts side
	// by side and 0.2 s each, a thousand come to their turn in it.
	startWait = 2 * time.Minute
	// retryFull is when to come back to a server that is full: boxes end in
	// seconds, not in milliseconds.
	retryFull = 5 * time.Second
)

// admission decides what may begin.
type admission struct {
	limits Limits
	rt     *boxlite.Runtime
	trace  Tracing
	slots  chan struct{} // starts under way; its waiters are served in order
	execs  chan struct{}

	mu      sync.Mutex
	waiting int
	boxes   int              // about how many there are
	running map[string]int64 // MiB promised to boxes that run, as far as is known
	mine    map[string]bool  // started by this server
}

func newAdmission(l Limits, rt *boxlite.Runtime, t Tracing) *admission {
	l = l.withDefaults()
	return &admission{
		limits: l, rt: rt, trace: t, slots: make(chan struct{}, l.Starts), execs: make(chan struct{}, l.Executions),
		running: map[string]int64{}, mine: map[string]bool{},
	}
}

func full(format string, args ...any) error {
	e := httpapi.Exhausted.Errorf(format, args...)
	e.RetryAfter = retryFull
	return e
}

// newBox tells whether one more box may be created.
func (a *admission) newBox(ctx context.Context, o boxlite.BoxOptions) error {
	if mem := int64(o.MemoryMiB); mem > a.limits.MemoryMiB {
		return httpapi.InvalidArgument.Errorf("memory_mib %d: this server has %d for all boxes", mem, a.limits.MemoryMiB)
	}
	a.mu.Lock()
	a.boxes++
	over := a.boxes > a.limits.Boxes
	a.mu.Unlock()
	if !over {
		return nil
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.boxes >= a.limits.Boxes {
		return full("there are %d boxes, the most this server keeps; remove some", a.boxes)
	}
	a.boxes++
	return nil
}

// refresh counts anew: other processes start and remove boxes too, and some
// end by themselves.
func (a *admission) refresh(ctx context.Context) error {
	infos, err := a.rt.Boxes(ctx)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.boxes = len(infos)
	running := map[string]int64{}
	for _, i := range infos {
		if i.State == boxlite.StateRunning {
			running[i.ID] = int64(i.Options.MemoryMiB)
		}
	}
	for id, mem := range a.running {
		if _, ok := running[id]; !ok && mem < 0 { // about to start
			running[id] = mem
		}
	}
	a.running = running
	return nil
}

// start waits for the turn of a box and reserves its place. The caller calls
// release when it has started, or not. Both are nil when the box runs.
func (a *admission) start(ctx context.Context, b *boxlite.Box) (release func(started bool), err error) {
	info, err := b.Info(ctx)
	if err != nil || info.State == boxlite.StateRunning {
		return nil, err
	}
	end := a.trace.step(ctx, "admission.turn", b.ID())
	err = a.turn(ctx)
	end(err)
	if err != nil {
		return nil, err
	}
	if info, err = b.Info(ctx); err != nil || info.State == boxlite.StateRunning {
		<-a.slots
		return nil, err
	}
	if err := a.reserve(ctx, info); err != nil {
		<-a.slots
		return nil, err
	}
	return func(started bool) {
		a.mu.Lock()
		delete(a.running, info.ID)
		if started {
			a.running[info.ID] = int64(info.Options.MemoryMiB)
			a.mine[info.ID] = true
		}
		a.mu.Unlock()
		<-a.slots
	}, nil
}

// turn waits in line.
func (a *admission) turn(ctx context.Context) error {
	select {
	case a.slots <- struct{}{}:
		return nil
	default:
	}
	a.mu.Lock()
	if a.waiting >= a.limits.Waiting {
		a.mu.Unlock()
		return full("%d boxes wait for their start, the most this server lets wait", a.limits.Waiting)
	}
	a.waiting++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.waiting--
		a.mu.Unlock()
	}()
	t := time.NewTimer(startWait)
	defer t.Stop()
	select {
	case a.slots <- struct{}{}:
		return nil
	case <-t.C:
		return full("the box has waited %v for its start; the server is busy", startWait)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reserve takes a place among those that run. Until the box runs its memory is
// counted as a negative number.
func (a *admission) reserve(ctx context.Context, info boxlite.BoxInfo) error {
	mem := int64(info.Options.MemoryMiB)
	if a.fits(info.ID, mem) == nil {
		return nil
	}
	if err := a.refresh(ctx); err != nil {
		return err
	}
	return a.fits(info.ID, mem)
}

func (a *admission) fits(id string, mem int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var sum int64
	for _, m := range a.running {
		sum += max(m, -m)
	}
	switch {
	case len(a.running) >= a.limits.Running:
		return full("%d boxes run, the most this server runs; stop some", len(a.running))
	case sum+mem > a.limits.MemoryMiB:
		return full("%d MiB are promised to running boxes, and %d more would be over the %d this server has", sum, mem, a.limits.MemoryMiB)
	}
	a.running[id] = -mem
	return nil
}

// stopped gives back the place of a box.
func (a *admission) stopped(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.running, id)
	delete(a.mine, id)
}

func (a *admission) startedHere(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mine[id]
}

// exec takes a place among the commands that run. release gives it back; it
// may be called more than once.
func (a *admission) exec() (release func(), err error) {
	select {
	case a.execs <- struct{}{}:
		return sync.OnceFunc(func() { <-a.execs }), nil
	default:
		e := httpapi.Exhausted.Errorf("%d commands run, the most this server runs", a.limits.Executions)
		e.RetryAfter = time.Second
		return nil, e
	}
}
