package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// Fake returns an engine named "fake". Its machine is the real agent, as an
// ordinary process of this host whose files are in Spec.Disk: everything of
// the guest protocol works, and nothing is isolated. Commands are the host's
// own, run as the user of the test.
func Fake() engine.Engine { return fake{} }

type fake struct{}

func (fake) Name() string { return "fake" }

// RunHelper does nothing: the agent is a binary of its own.
func (fake) RunHelper() {}

// Check starts a machine and asks its agent.
func (f fake) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := f.check(ctx)
	if err != nil {
		return &engine.Unsupported{Engine: f.Name(), Reason: "the agent does not start here", Err: err}
	}
	return nil
}

func (f fake) check(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "boxlite-fake-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := f.Start(ctx, engine.Spec{ID: "check", Dir: dir, Disk: dir, DiskSize: 1, CPUs: 1, Memory: 1})
	if err != nil {
		return err
	}
	_, err = guest.NewClient(m.Dial).Ping(ctx)
	return errors.Join(err, m.Stop(ctx))
}

// Start runs the agent and waits until it serves.
func (fake) Start(ctx context.Context, s engine.Spec) (engine.Machine, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	if s.ID == "" || s.Dir == "" || s.Disk == "" || s.DiskSize <= 0 || s.CPUs <= 0 || s.Memory <= 0 {
		return nil, fmt.Errorf("fake: incomplete spec %+v", s)
	}
	bin, err := agentFile()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(s.Disk, "root")
	if err := os.MkdirAll(filepath.Join(root, "tmp"), 0o755); err != nil {
		return nil, err
	}
	if err := linkVolumes(root, s.Volumes); err != nil {
		return nil, fmt.Errorf("fake: %w", err)
	}
	m := &fakeMachine{memory: s.Memory, done: make(chan struct{})}
	if err := m.spawn(bin, root); err != nil {
		return nil, err
	}
	if err := m.ready(ctx); err != nil {
		m.kill()
		return nil, fmt.Errorf("fake: the agent does not serve: %w", err)
	}
	return m, nil
}

// linkVolumes stands in for mounts: commands find the host's files by links,
// and may write them all.
func linkVolumes(root string, vs []engine.Volume) error {
	if err := engine.CheckVolumes(vs); err != nil {
		return err
	}
	for _, v := range vs {
		if _, err := os.Lstat(v.Host); err != nil {
			return err
		}
		path := filepath.Join(root, v.Guest)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil { // a link of the run before
			return err
		}
		if err := os.Symlink(v.Host, path); err != nil {
			return err
		}
	}
	return nil
}

// fakeMachine is one agent process.
type fakeMachine struct {
	memory  int64
	cmd     *exec.Cmd
	control *os.File // SOCK_SEQPACKET, non-blocking
	done    chan struct{}
	stop    sync.Once

	mu       sync.Mutex
	stopping bool
	err      error
}

func (m *fakeMachine) spawn(bin, root string) error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "control")
	defer theirs.Close()
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return err
	}
	m.control = os.NewFile(uintptr(fds[0]), "control")
	m.cmd = exec.Command(bin, "-root", root)
	m.cmd.Env = []string{} // nothing of the host's
	if raceEnabled {
		m.cmd.Env = []string{"GORACE=atexit_sleep_ms=0"} // else each agent lingers a second
	}
	m.cmd.Dir = "/"
	m.cmd.ExtraFiles = []*os.File{theirs}
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	var stderr tail
	m.cmd.Stderr = &stderr
	if err := m.cmd.Start(); err != nil {
		m.control.Close()
		return fmt.Errorf("fake: %w", err)
	}
	go m.wait(&stderr) // ends with the agent
	return nil
}

func (m *fakeMachine) wait(stderr *tail) {
	err := m.cmd.Wait()
	m.control.Close()
	m.mu.Lock()
	if !m.stopping || stderr.raced() {
		m.err = fmt.Errorf("fake: the agent ended: %v %s", err, stderr)
	}
	m.mu.Unlock()
	close(m.done)
}

// ready waits for the message that says the agent serves.
func (m *fakeMachine) ready(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { m.control.SetReadDeadline(time.Unix(1, 0)) })()
	var b [1]byte
	_, err := m.control.Read(b[:])
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Dial sends the agent one end of a new socketpair.
func (m *fakeMachine) Dial(ctx context.Context) (net.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("stream to the agent: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "stream")
	defer ours.Close()
	defer unix.Close(fds[1])
	if err := m.send(fds[1]); err != nil {
		return nil, fmt.Errorf("the machine has ended: %w", err)
	}
	return net.FileConn(ours)
}

func (m *fakeMachine) send(fd int) error {
	rc, err := m.control.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = rc.Write(func(control uintptr) bool {
		serr = unix.Sendmsg(int(control), []byte{0}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return serr != unix.EAGAIN
	})
	return errors.Join(err, serr)
}

// Stop shuts the box down, then hangs up, then kills.
func (m *fakeMachine) Stop(ctx context.Context) error {
	m.stop.Do(func() {
		m.mu.Lock()
		m.stopping = true
		m.mu.Unlock()
		m.shutdown(ctx)
		m.control.Close() // the agent kills what is left and exits
		select {
		case <-m.done:
		case <-time.After(5 * time.Second):
			m.kill()
		}
	})
	<-m.done
	return nil
}

func (m *fakeMachine) shutdown(ctx context.Context) {
	grace := 10 * time.Second
	if end, ok := ctx.Deadline(); ok {
		grace = min(grace, time.Until(end))
	}
	if grace > 0 && ctx.Err() == nil {
		guest.NewClient(m.Dial).Shutdown(ctx, grace) // force follows whatever it says
	}
}

func (m *fakeMachine) kill() {
	m.mu.Lock()
	m.stopping = true
	m.mu.Unlock()
	m.control.Close()
	m.cmd.Process.Kill()
	<-m.done
}

func (m *fakeMachine) Done() <-chan struct{} { return m.done }

func (m *fakeMachine) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// SaveDisk has only to flush: the tree is on the host's disk.
func (m *fakeMachine) SaveDisk(context.Context) (engine.Saved, error) {
	unix.Sync()
	return engine.Saved{}, nil
}

// Activity is not known: the agent is a process like any.
func (m *fakeMachine) Activity() uint64 { return 0 }

// Stats are those of the agent's process.
func (m *fakeMachine) Stats(context.Context) (engine.Stats, error) {
	pid := m.cmd.Process.Pid
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return engine.Stats{}, fmt.Errorf("fake: %w", err)
	}
	// Fields are counted from the end of the name, which may hold anything:
	// utime and stime in ticks of 10 ms are the 12th and 13th, rss in pages
	// the 22nd.
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return engine.Stats{}, fmt.Errorf("fake: /proc stat of %d: %q", pid, b)
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(f[i], 10, 64); return n }
	return engine.Stats{
		CPU:         time.Duration(number(11)+number(12)) * 10 * time.Millisecond,
		Memory:      number(21) * int64(os.Getpagesize()),
		MemoryLimit: m.memory,
		PID:         pid,
	}, nil
}

// maxTail is how much is kept of what an agent complains about: a few reports
// of the race detector.
const maxTail = 32 << 10

// raced reports whether the agent was built with the race detector, which
// found something.
func (t *tail) raced() bool { return strings.Contains(t.String(), "DATA RACE") }

// tail keeps the last bytes of what an agent complains about.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-maxTail):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
