package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

const (
	// bootTimeout is how long a machine may take to start. A cold start takes
	// a tenth of a second; a minute is for hosts that are swapping.
	bootTimeout = time.Minute
	// quickGrace is what commands get between SIGTERM and SIGKILL when nobody
	// waits for them: the starter is gone, or the main command has ended.
	quickGrace = time.Second
	// settled is when a box has started and its first commands have been sent.
	settled = time.Second
	// maxSpec bounds the spec, which holds arguments and environment.
	maxSpec = 8 << 20
)

// errSlowBoot is what a starter is told when the time for a boot is over.
var errSlowBoot = fmt.Errorf("the machine did not come up within %v: the host is overloaded, or the engine does not work here; see boxlite doctor", bootTimeout)

// owner is a shim at work on its box.
type owner struct {
	spec    Spec
	eng     engine.Engine
	lock    *hostos.Lock
	ln      *net.UnixListener
	machine engine.Machine
	net     *network // nil: none
	guest   *guest.Client
	ping    func(context.Context) error // asks the agent for a sign of life
	stopped chan struct{}               // closed when the box is over and its lock is free
	unkept  error                       // why its files were not saved at the end; valid after stopped
	ends    chan ending                 // why to stop; the first one counts
	cancel  context.CancelFunc
	calls   sync.WaitGroup // requests being answered
	follows sync.WaitGroup // goroutines that follow the main command

	bootBegin, bootEnd time.Time // of the machine; for the starter

	mu       sync.Mutex
	run      Run
	followed bool      // the main command has been started
	saving   int       // saves under way
	since    time.Time // of these; zero without any
	saved    uint64    // activity at which all was saved and the agent well; 0: none
	calm     uint64    // activity when what a save or a ping woke had settled
	dials    int       // streams to the agent that were asked for
	left     bool      // the directory of the box is another's
}

// ending says why and how a box is to stop.
type ending struct {
	grace   time.Duration
	state   State
	reason  string
	oom     bool
	discard bool // the box is to be removed: nothing in it is asked, or saved
}

// Main returns at once unless this process was started as a shim; then it
// never returns.
func Main(engines []engine.Engine) {
	if len(os.Args) == 0 || os.Args[0] != Arg0 {
		return
	}
	// A shim mostly waits; its memory counts for every box.
	debug.SetGCPercent(50)
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE)
	// What a starter has left open would stay so for as long as the box lives:
	// a pipe, for instance, whose reader waits for the end of all who write.
	hostos.CloseInherited(lifeFD + 1)
	status, life := os.NewFile(statusFD, "status"), os.NewFile(lifeFD, "life")
	spec, err := readSpec()
	if err == nil {
		err = serve(engines, spec, status, life)
	}
	if err != nil {
		say(status, reply{Fault: faultOf(err)})
		os.Exit(1) //nolint:forbidigo // this process is a helper; main goes no further
	}
	os.Exit(0) //nolint:forbidigo // as above
}

func readSpec() (Spec, error) {
	f := os.NewFile(specFD, "spec")
	defer f.Close()
	var s Spec
	if err := json.NewDecoder(io.LimitReader(f, maxSpec)).Decode(&s); err != nil {
		return s, fmt.Errorf("spec of the box: %w", err)
	}
	return s, nil
}

// say tells the starter something. One that is gone is told nothing.
func say(status *os.File, r reply) { _ = json.NewEncoder(status).Encode(r) }

// serve lives the life of one box. The error says why it did not start.
func serve(engines []engine.Engine, spec Spec, status, life *os.File) error {
	eng, err := pick(engines, spec.Engine)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := &owner{spec: spec, eng: eng, stopped: make(chan struct{}), ends: make(chan ending, 1), cancel: cancel}
	o.watchStarter(life)
	if spec.Check {
		if err := eng.Check(ctx); err != nil {
			return err
		}
		say(status, reply{})
		return nil
	}
	if err := o.begin(); err != nil {
		return err
	}
	if err := o.boot(ctx); err != nil {
		return o.unbegin(err)
	}
	say(status, reply{BootBegin: o.bootBegin, BootEnd: o.bootEnd})
	go o.watchAgent(ctx) // end with the box
	go o.keepSaved(ctx)
	go o.watchHealth(ctx)
	// Most of what the start took is never used again. It is given back when
	// the first commands, which would only wait for it, are through.
	trim := time.AfterFunc(settled, func() {
		debug.FreeOSMemory()
		hostos.OwnText().Trim()
	})
	defer trim.Stop()
	o.finish(<-o.ends)
	last := o.state()
	say(status, reply{Run: &last})
	return nil
}

func pick(engines []engine.Engine, name string) (engine.Engine, error) {
	for _, e := range engines {
		if name == "" || e.Name() == name {
			return e, nil
		}
	}
	return nil, &Fault{Kind: KindUnsupported, Message: fmt.Sprintf("the helper has no engine %q", name)}
}

// end asks for the box to stop. Only the first reason counts.
func (o *owner) end(e ending) {
	select {
	case o.ends <- e:
	default:
	}
	o.cancel()
}

// watchStarter ends an attached box when its starter is gone, and any box on
// SIGTERM.
func (o *owner) watchStarter(life *os.File) {
	sig := make(chan os.Signal, 1)
	signal.Notify(sig, syscall.SIGTERM, syscall.SIGINT)
	// Both goroutines live as long as the process.
	go func() {
		<-sig
		o.end(ending{grace: quickGrace, state: Stopped, reason: "its shim was told to stop"})
	}()
	if !o.spec.Attached && !o.spec.Check {
		life.Close()
		return
	}
	go func() {
		_, _ = io.Copy(io.Discard, life)
		o.end(ending{grace: quickGrace, state: Stopped, reason: "the process that started it let go of it"})
	}()
}

// begin takes the box: lock, clean directory, state, socket.
func (o *owner) begin() (err error) {
	o.lock, err = Lock(o.spec.Dir)
	switch {
	case errors.Is(err, hostos.ErrLocked):
		return &Fault{Kind: KindBusy, Message: "another process has the box"}
	case errors.Is(err, fs.ErrNotExist):
		return &Fault{Kind: KindGone, Message: "the box was removed"}
	case err != nil:
		return err
	}
	if r, err := readRun(o.spec.Dir); err != nil || r.State != "" { // a new box has nothing to sweep
		if err := sweep(o.spec.Dir, o.spec.Machine.ID); err != nil {
			return err
		}
	}
	o.spec.Machine.Dir = filepath.Join(o.spec.Dir, machineName)
	o.spec.Machine.Disk = DiskDir(o.spec.Dir)
	o.update(func(r *Run) {
		*r = Run{
			State: Starting, PID: os.Getpid(), Engine: o.eng.Name(), BootID: hostos.BootID(), Started: time.Now(),
			Reduced: o.spec.Machine.Reduced, Attached: o.spec.Attached, Volumes: o.spec.Machine.Volumes, Saved: r.Saved,
		}
	})
	return o.listen()
}

func (o *owner) listen() error {
	d, err := os.Open(o.spec.Dir)
	if err != nil {
		return err
	}
	defer d.Close()
	o.ln, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketPath(d), Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("socket of the box: %w", err)
	}
	o.ln.SetUnlinkOnClose(false) // its name is of a descriptor we close now
	return nil
}

// boot starts the machine and the main command.
func (o *owner) boot(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, bootTimeout, errSlowBoot)
	defer cancel()
	if err := o.openNetwork(); err != nil {
		return err
	}
	o.bootBegin = time.Now()
	if o.machine, err = o.eng.Start(ctx, o.spec.Machine); err != nil {
		return err
	}
	o.bootEnd = time.Now()
	o.guest = guest.NewClient(o.machine.Dial)
	o.ping = func(ctx context.Context) error { _, err := o.guest.Ping(ctx); return err }
	go func() { // ends with the machine
		<-o.machine.Done()
		o.end(died(o.machine.Err()))
	}()
	if err := o.joinNetwork(ctx); err != nil {
		return err
	}
	if o.spec.Main != nil {
		if err := o.startMain(ctx); err != nil {
			return err
		}
	}
	o.update(func(r *Run) {
		r.State = Running
		if o.spec.Health != nil {
			r.Health.State = HealthStarting
		}
		if o.net != nil {
			r.Ports = o.net.ports
		}
		if s, ok := o.machine.(engine.Statser); ok {
			if st, err := s.Stats(ctx); err == nil {
				r.Machine = st.PID
			}
		}
	})
	go o.accept() // ends when finish closes the listener
	return nil
}

func died(err error) ending {
	e := ending{state: Failed, reason: "its machine ended", oom: errors.Is(err, engine.ErrOutOfMemory)}
	if err != nil {
		e.reason = err.Error()
	}
	return e
}

// unbegin takes back begin and what boot did when the box cannot start.
func (o *owner) unbegin(cause error) error {
	f, command := errors.AsType[*Fault](cause)
	command = command && f.Kind == KindCommand
	select {
	case e := <-o.ends: // the start was called off, or the machine died under it
		if !command {
			cause = errors.New(e.reason)
		}
	default:
	}
	if o.machine != nil {
		ctx, cancel := context.WithTimeout(context.Background(), quickGrace)
		defer cancel()
		cause = errors.Join(cause, o.machine.Stop(ctx))
	}
	cause = errors.Join(cause, o.leaveNetwork())
	f = faultOf(cause)
	o.update(func(r *Run) {
		r.State, r.Reason, r.Finished, r.PID = Failed, f.Message, time.Now(), 0
		if f.Command != nil {
			r.Exit = &guest.Exit{Code: commandCode(f.Command.Kind), Cause: guest.Exited, Time: r.Finished}
		}
	})
	o.ln.Close()
	if o.spec.AutoRemove {
		_ = o.remove()
	} else {
		_ = sweep(o.spec.Dir, o.spec.Machine.ID)
	}
	o.lock.Unlock()
	return f
}

// commandCode is what a shell would exit with.
func commandCode(k guest.Kind) int {
	if k == guest.KindNotFound {
		return 127
	}
	return 126
}

// update changes the state and writes it down. A state that cannot be written
// (a full disk, or a box that has been left) is still served over the socket.
func (o *owner) update(f func(*Run)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.run.State == "" {
		if r, err := readRun(o.spec.Dir); err == nil {
			o.run = r
		}
	}
	f(&o.run)
	if o.left {
		return
	}
	if err := writeRun(o.spec.Dir, o.run); err != nil {
		fmt.Fprintln(os.Stderr, "write state:", err)
	}
}

func (o *owner) state() Run {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.run
}
