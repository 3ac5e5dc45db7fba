package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// parts are what a machine is made of.
type parts struct {
	proc   *process      // the sentry
	files  *goferProcess // nil without volumes
	ctl    *control
	agent  *net.UnixConn // control socket of the agent: a stream a message
	ready  *os.File      // one byte when the sentry waits for its orders
	cgroup *hostos.Cgroup
	layer  *layer
}

// machine is one sentry and our ends of what connects us.
type machine struct {
	log  *slog.Logger
	spec engine.Spec
	parts

	dialing chan struct{} // holds the one right to send on agent

	saving chan struct{} // holds the one right to save layer; in the end cleanUp keeps it

	mu      sync.Mutex
	stopped bool      // Stop was called
	why     error     // why we killed it, if so
	kills   int64     // processes the memory limit killed, when we last looked
	killed  time.Time // when that number last grew

	done chan struct{}
	err  error // valid after done
}

var (
	_ engine.Machine   = (*machine)(nil)
	_ engine.DiskSaver = (*machine)(nil)
	_ engine.Statser   = (*machine)(nil)
)

// newMachine takes all it is given.
func newMachine(l *slog.Logger, s engine.Spec, p parts) *machine {
	m := &machine{
		log:     l.With(slog.String("box", s.ID)),
		spec:    s,
		parts:   p,
		dialing: make(chan struct{}, 1),
		saving:  make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	var watch sync.WaitGroup
	watch.Go(m.watchMemory)
	watch.Go(m.watchFiles)
	// Ends with the sentry; done says so.
	go func() {
		<-p.proc.exited
		m.files.kill()
		watch.Wait()
		m.cleanUp()
		close(m.done)
	}()
	return m
}

// cleanUp runs when the sentry is gone.
func (m *machine) cleanUp() {
	m.mu.Lock()
	stopped, why := m.stopped, m.why
	m.mu.Unlock()
	switch {
	case why != nil:
		m.err = why
	case stopped:
	case m.oomKilled():
		m.err = engine.ErrOutOfMemory
	default:
		m.err = m.lastWords()
	}
	m.ready.Close()
	m.agent.Close()
	m.ctl.close()
	m.saving <- struct{}{} // a save under way ends with what it has: the disk is the next machine's
	m.layer.Close()
	if err := m.cgroup.Remove(); err != nil {
		m.log.Warn("cgroup left behind", slog.Any("err", err))
	}
}

// lastWords says how the sentry ended. The process has ended.
func (m *machine) lastWords() error {
	<-m.proc.exited
	err := fmt.Errorf("sentry ended: %s", m.proc.cmd.ProcessState)
	if w := m.proc.words.String(); w != "" {
		err = fmt.Errorf("%w: %s", err, w)
	}
	return err
}

// boot waits for the sentry, starts the box and waits for its agent.
func (m *machine) boot(ctx context.Context) error {
	unwatch := context.AfterFunc(ctx, m.abort)
	defer unwatch()
	there, err := m.awaitSentry()
	if err != nil {
		return err
	}
	if err := m.startRoot(); err != nil {
		return err
	}
	if err := m.awaitAgent(ctx); err != nil {
		return err
	}
	m.spareAgent(there)
	return nil
}

// awaitAgent returns when the agent has said that it serves.
func (m *machine) awaitAgent(ctx context.Context) error {
	unwatch := context.AfterFunc(ctx, func() { _ = m.agent.SetReadDeadline(time.Now()) })
	defer unwatch()
	var one [1]byte
	switch n, err := m.agent.Read(one[:]); {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("agent did not come up: %w", err)
	case n == 0:
		return errors.New("agent did not come up")
	}
	return nil
}

// awaitSentry returns when the sentry waits to be told to start the box, and is
// where it belongs, with the processes it has for that.
func (m *machine) awaitSentry() (there []int, err error) {
	var beside sync.WaitGroup // what need not wait for the sentry to come up
	var entered, told error
	beside.Go(func() { entered = m.cgroup.Enter(append(m.files.pids(), m.proc.cmd.Process.Pid)...) })
	beside.Go(func() { told = m.ctl.calls.Call(boot.ContMgrSetNetworkArgs, networkArgs(m.spec.NIC), nil) })
	var one [1]byte
	_, err = io.ReadFull(m.ready, one[:])
	beside.Wait()
	switch {
	case err != nil:
		return nil, fmt.Errorf("sentry did not come up: %w", err)
	case told != nil:
		return nil, fmt.Errorf("network: %w", told)
	case entered != nil:
		return nil, entered
	}
	there = hostos.Descendants(m.proc.cmd.Process.Pid)
	if err := m.cgroup.Enter(there...); err != nil {
		return nil, err
	}
	offerCommands(there)
	return there, nil
}

// startRoot starts the box, with its layer if one is saved.
func (m *machine) startRoot() (err error) {
	defer m.layer.started()
	start := func() error {
		if err := m.ctl.calls.Call(boot.ContMgrRootContainerStart, &m.spec.ID, nil); err != nil {
			return diagnoseMounts(fmt.Errorf("boot: %w", err), m.spec.Volumes)
		}
		return nil
	}
	if m.layer.sentry == nil {
		return start()
	}
	verified := make(chan error, 1)
	go func() { verified <- m.layer.verify(treeFile) }() // ends by itself; it is waited for below
	_, err = m.paused(func() error {
		if err := errors.Join(start(), <-verified); err != nil {
			return err
		}
		return m.layer.fill()
	})
	return err
}

// Dial implements engine.Machine: the agent receives one end of a new pair.
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	conn, theirs, err := socketpair(unix.SOCK_STREAM)
	if err != nil {
		return nil, fmt.Errorf("dial agent: %w", err)
	}
	defer theirs.Close()
	if err := m.send(ctx, theirs); err != nil {
		conn.Close()
		return nil, fmt.Errorf("dial agent: %w", err)
	}
	return conn, nil
}

// send passes f to the agent.
func (m *machine) send(ctx context.Context, f *os.File) error {
	select {
	case m.dialing <- struct{}{}:
		defer func() { <-m.dialing }()
	case <-m.done:
		return engine.ErrEnded
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// An agent that does not read must not hold us longer than ctx.
	unwatch := context.AfterFunc(ctx, func() { _ = m.agent.SetWriteDeadline(time.Now()) })
	_, _, err := m.agent.WriteMsgUnix([]byte{0}, unix.UnixRights(int(f.Fd())), nil)
	if !unwatch() {
		_ = m.agent.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, net.ErrClosed), errors.Is(err, unix.EPIPE):
		return engine.ErrEnded
	}
	return err
}

// orderlyStop bounds how long Stop asks when its ctx has no end.
const orderlyStop = 10 * time.Second

// Stop implements engine.Machine.
func (m *machine) Stop(ctx context.Context) error {
	select {
	case <-m.proc.exited: // by itself: Err says why
	default:
		m.mu.Lock()
		m.stopped = true
		m.mu.Unlock()
		m.shutDown(ctx)
	}
	m.kill()
	return nil
}

// shutDown asks the agent to end all commands.
func (m *machine) shutDown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, orderlyStop)
	defer cancel()
	select {
	case <-m.done:
		return
	case <-ctx.Done():
		return
	default:
	}
	deadline, _ := ctx.Deadline()
	// Half of the time for those that heed SIGTERM; the rest for the agent to
	// kill those that do not, and to tell.
	if guest.NewClient(m.Dial).Shutdown(ctx, time.Until(deadline)/2) != nil {
		return // force comes next
	}
	// Without its control socket the agent ends, having told those who listen
	// how their commands ended.
	_ = m.agent.CloseWrite()
	select {
	case <-m.proc.exited:
	case <-time.After(lastStreams):
	case <-ctx.Done():
	}
}

// lastStreams is how long an agent that has ended all commands may take to
// flush its streams.
const lastStreams = 2 * time.Second

// kill ends the machine at once and returns when nothing of it is left.
func (m *machine) kill() {
	m.abort()
	<-m.done
}

// abort makes the machine end.
func (m *machine) abort() { _ = m.proc.cmd.Process.Kill() }

// fail ends the machine for a reason of ours.
func (m *machine) fail(why error) {
	m.mu.Lock()
	if m.why == nil && !m.stopped {
		m.why = why
	}
	m.mu.Unlock()
	m.abort()
}

// Done implements engine.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Err implements engine.Machine.
func (m *machine) Err() error {
	<-m.done
	return m.err
}
