package agent

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// Bounds of the output kept of one command, in bytes of each stream.
const (
	defaultKeep = 1 << 20
	maxKeep     = 16 << 20
	minKeep     = 4 << 10
	maxShown    = 4 << 10 // bytes of the arguments in listings
)

// launch is a command resolved in the box: what fork needs.
type launch struct {
	cmd  *guest.Command
	who  *account
	dir  string
	env  []string
	path string
}

// start runs a command. It calls ready before any output is taken. The error is
// a *guest.Error that says what is wrong with the command; ready has not been
// called then.
func (a *Agent) start(c *guest.Command, ready func(*execution)) (*execution, error) {
	<-a.named
	l, err := a.resolve(c)
	if err != nil {
		return nil, err
	}
	id := c.ID
	if id == "" {
		id = randomID()
	}
	if err := a.table.reserve(id); err != nil {
		return nil, err
	}
	e, err := a.launch(id, l, ready)
	if err != nil {
		a.table.release(id)
		return nil, err
	}
	return e, nil
}

// resolve looks up all that a command names.
func (a *Agent) resolve(c *guest.Command) (*launch, error) {
	who, err := a.account(c.User)
	if err != nil {
		return nil, err
	}
	l := &launch{cmd: c, who: who, env: a.environ(c, who)}
	if l.dir, err = a.workDir(c, who); err != nil {
		return nil, err
	}
	if l.path, err = a.find(c.Args[0], l.dir, l.env); err != nil {
		return nil, err
	}
	return l, nil
}

func (a *Agent) workDir(c *guest.Command, who *account) (string, error) {
	dir := a.path(filepath.Join("/", c.Dir))
	fi, err := os.Stat(dir)
	switch {
	case err == nil && fi.IsDir():
		return dir, nil
	case err == nil:
		return "", fail(guest.KindNotDir, "working directory %s is not a directory", c.Dir)
	case !os.IsNotExist(err):
		return "", fail(guest.KindNotDir, "working directory: %v", err)
	case !c.MakeDir:
		return "", fail(guest.KindNotDir, "working directory %s is not in the box", c.Dir)
	}
	return dir, a.makeDirs(dir, 0o755, who)
}

// launch opens what the command reads and writes, starts it and adds it to the
// table.
func (a *Agent) launch(id string, l *launch, ready func(*execution)) (*execution, error) {
	var u undo.Stack
	defer u.Run()
	io, err := openStdio(l.cmd, l.who)
	if err != nil {
		return nil, err
	}
	defer io.closeChild()
	u.Add(io.close)
	g, err := a.groups.group(id, l.cmd.Limits.Processes)
	if err != nil {
		return nil, err
	}
	u.Add(func() { a.table.bury(g) })

	ended := make(chan unix.WaitStatus, 1)
	started := time.Now()
	pid, err := a.fork(l, io, g, func(ws unix.WaitStatus) { ended <- ws })
	g.started()
	if err != nil {
		return nil, err
	}
	u.Keep()
	e := a.newExecution(id, l, io, g)
	e.info.PID, e.info.Started = pid, started
	ready(e)
	a.table.add(e)
	for _, p := range e.pumps() {
		go p.run() // ends with the output, or with drop
	}
	go e.wait(ended, l.cmd.Timeout) // ends with the command
	return e, nil
}

func (a *Agent) newExecution(id string, l *launch, io *stdio, g group) *execution {
	keep := l.cmd.Keep
	if keep == 0 {
		keep = defaultKeep
	}
	keep = min(max(keep, minKeep), maxKeep)
	e := &execution{
		agent: a, group: g, tty: io.tty, stdin: io.stdin,
		out: newPump(io.stdout, keep), done: make(chan struct{}),
		info: guest.Execution{ID: id, Args: shown(l.cmd.Args), TTY: io.tty != nil},
	}
	if io.stderr != nil {
		e.err = newPump(io.stderr, keep)
	}
	return e
}

// fork starts the process. With limits, or without user namespaces, it becomes
// the command through the agent's own helper; the errors are the same.
func (a *Agent) fork(l *launch, io *stdio, g group, ended func(unix.WaitStatus)) (int, error) {
	attr := &syscall.ProcAttr{Dir: l.dir, Env: l.env, Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, fd := range io.child {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	if io.tty != nil {
		attr.Sys.Setctty, attr.Sys.Ctty = true, 0
	}
	if a.switchUser {
		attr.Sys.Credential = l.who.credential()
	}
	g.attach(attr)
	path, args := l.path, l.cmd.Args
	words := limitWords(l.cmd.Limits)
	if a.confined {
		words = append([]string{confineWord}, words...) // the address space stays the last
		attr.Sys.AmbientCaps = []uintptr{keptForHelpers}
	}
	if len(words) == 0 {
		return a.fork1(l, path, args, attr, ended)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("make a pipe: %w", err)
	}
	defer r.Close()
	attr.Files = append(attr.Files, w.Fd())
	pid, err := a.fork1(l, a.self, limitsArgs(words, path, args), attr, ended)
	w.Close()
	if err != nil {
		return 0, err
	}
	if err := reported(r); err != nil {
		return 0, execError(args[0], path, err)
	}
	return pid, nil
}

func (a *Agent) fork1(l *launch, path string, args []string, attr *syscall.ProcAttr, ended func(unix.WaitStatus)) (int, error) {
	pid, err := a.reaper.start(func() (int, error) {
		return syscall.ForkExec(path, args, attr)
	}, ended)
	if err != nil {
		return 0, execError(l.cmd.Args[0], path, err)
	}
	return pid, nil
}

// shown is args as listings tell them: bounded.
func shown(args []string) []string {
	left := maxShown
	out := make([]string, 0, min(len(args), 64))
	for _, s := range args {
		if len(s) > left || len(out) == cap(out) && len(out) == 64 {
			return append(out, "...")
		}
		left -= len(s)
		out = append(out, strings.Clone(s))
	}
	return out
}

func randomID() string {
	var b [8]byte
	if _, err := unix.Getrandom(b[:], 0); err != nil {
		panic(fmt.Sprintf("getrandom: %v", err)) // it cannot fail once the kernel runs
	}
	return hex.EncodeToString(b[:])
}
