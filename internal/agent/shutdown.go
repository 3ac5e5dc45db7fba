package agent

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killTimeout bounds the wait for processes that were sent SIGKILL. Only one
// that the kernel cannot end outlives it.
const killTimeout = 5 * time.Second

// shutdown ends every process but the agent: SIGTERM, after grace SIGKILL. Then
// it flushes the file systems. Nothing starts after it.
func (a *Agent) shutdown(grace time.Duration) {
	a.table.close()
	for _, e := range a.table.all() {
		e.note(syscall.SIGTERM)
		e.note(syscall.SIGKILL)
	}
	if grace > 0 && !a.reaper.empty() {
		a.groups.signalAll(syscall.SIGTERM)
		a.groups.signalAll(syscall.SIGCONT) // a stopped process would not notice
		a.waitEmpty(grace)
	}
	a.killAll()
	a.settle()
	if a.root == "" {
		unix.Sync()
	}
}

// settleTimeout bounds the wait for hosts that do not take what they are owed.
const settleTimeout = time.Second

// settle waits until those who follow an execution have its exit: after
// Shutdown the host may end the box at any moment.
func (a *Agent) settle() {
	stop := make(chan struct{})
	t := time.AfterFunc(settleTimeout, func() { close(stop) })
	defer t.Stop()
	for _, e := range a.table.all() {
		select {
		case <-e.done:
		case <-stop:
		}
	}
	a.table.waitLeft(stop)
}

// killAll sends SIGKILL until nobody is left: a process may be forking.
func (a *Agent) killAll() {
	for end := time.Now().Add(killTimeout); time.Now().Before(end); {
		a.groups.signalAll(syscall.SIGKILL)
		if a.waitEmpty(50 * time.Millisecond) {
			return
		}
	}
}

// waitEmpty waits at most d and reports whether no process is left.
func (a *Agent) waitEmpty(d time.Duration) bool {
	stop := make(chan struct{})
	t := time.AfterFunc(d, func() { close(stop) })
	defer t.Stop()
	a.reaper.waitEmpty(stop)
	return a.reaper.empty()
}
