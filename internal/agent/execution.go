package agent

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// execution is one command: running, or ended and kept.
type execution struct {
	agent *Agent
	info  guest.Execution // Exit is set under mu; the rest never changes
	group group
	out   *pump
	err   *pump    // nil with a terminal
	tty   *os.File // nil without
	done  chan struct{}

	mu       sync.Mutex
	stdin    *os.File // nil: none, or its end was sent
	timedOut bool
	sent     uint64 // signals sent by request: bit n-1 for signal n
	exit     *guest.Exit
}

// snapshot tells what is known now.
func (e *execution) snapshot() guest.Execution {
	e.mu.Lock()
	defer e.mu.Unlock()
	info := e.info
	info.Exit = e.exit
	return info
}

// wait makes the exit out of how the process ended. It runs in a goroutine of
// its own for as long as the command.
func (e *execution) wait(ended <-chan unix.WaitStatus, timeout time.Duration) {
	var deadline <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		deadline = t.C
	}
	var ws unix.WaitStatus
	select {
	case ws = <-ended:
	case <-deadline:
		e.mu.Lock()
		e.timedOut = true
		e.mu.Unlock()
		_ = e.group.kill() // the wait below shows whether it worked
		ws = <-ended
	}
	e.flush()
	e.finish(ws)
}

// flush waits until what the command wrote is in the rings.
func (e *execution) flush() {
	grace := make(chan struct{})
	t := time.AfterFunc(exitGrace, func() { close(grace) })
	defer t.Stop()
	for _, p := range e.pumps() {
		p.flush(grace)
	}
}

func (e *execution) pumps() []*pump {
	if e.err == nil {
		return []*pump{e.out}
	}
	return []*pump{e.out, e.err}
}

func (e *execution) finish(ws unix.WaitStatus) {
	x := guest.Exit{Code: ws.ExitStatus(), Cause: guest.Exited, Time: time.Now()}
	if ws.Signaled() {
		x.Signal = int(ws.Signal())
		x.Code, x.Cause = 128+x.Signal, guest.Signaled
	}
	e.mu.Lock()
	if e.timedOut {
		x.Code, x.Signal, x.Cause = 128+int(unix.SIGKILL), int(unix.SIGKILL), guest.TimedOut
	}
	x.Killed = x.Cause == guest.Signaled && e.sent&signalBit(ws.Signal()) != 0
	x.StdoutEnd = e.out.ring.seal()
	if e.err != nil {
		x.StderrEnd = e.err.ring.seal()
	}
	e.exit = &x
	e.mu.Unlock()
	e.closeStdin()
	close(e.done)
	e.agent.table.ended(e)
}

// signal sends sig to the process; with a terminal this is the leader of its
// session. One that has ended is no error.
func (e *execution) signal(sig syscall.Signal) error {
	e.note(sig)
	if err := e.agent.reaper.signal(e.info.PID, sig); err != nil {
		return fmt.Errorf("signal %d to execution %s: %w", sig, e.info.ID, err)
	}
	return nil
}

// note remembers that a signal is sent by request.
func (e *execution) note(sig syscall.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent |= signalBit(sig)
}

func signalBit(sig syscall.Signal) uint64 { return 1 << (uint(sig-1) & 63) }

// kill ends everything the execution started, whether it has ended or not.
func (e *execution) kill() error {
	e.note(syscall.SIGKILL)
	if err := e.group.kill(); err != nil {
		return fmt.Errorf("kill execution %s: %w", e.info.ID, err)
	}
	return nil
}

func (e *execution) resize(size guest.Size) error {
	if e.tty == nil {
		return fail(guest.KindInvalid, "execution %s has no terminal", e.info.ID)
	}
	select {
	case <-e.done:
		return nil
	default:
		return resize(e.tty, size)
	}
}

// writeStdin waits while the command does not read. After the end of the
// command, or of its standard input, it discards.
func (e *execution) writeStdin(p []byte) {
	e.mu.Lock()
	f := e.stdin
	e.mu.Unlock()
	if f != nil {
		_, _ = f.Write(p) // fails only when nobody reads any more
	}
}

// endOfInput is what a user types for it on a terminal.
const endOfInput = 0x04

// closeStdin sends the end of file.
func (e *execution) closeStdin() {
	e.mu.Lock()
	f := e.stdin
	e.stdin = nil
	ended := e.exit != nil
	e.mu.Unlock()
	switch {
	case f == nil:
	case e.tty == nil:
		f.Close()
	case ended:
		f.SetWriteDeadline(time.Unix(1, 0)) // nobody reads any more: end a write that waits
	default:
		_, _ = f.Write([]byte{endOfInput})
	}
}

// drop forgets the output and frees what the execution holds.
func (e *execution) drop() {
	for _, p := range e.pumps() {
		p.drop()
	}
	e.closeStdin()
}

// ringBytes is the memory its output takes.
func (e *execution) ringBytes() int64 {
	var n int64
	for _, p := range e.pumps() {
		n += p.ring.size()
	}
	return n
}

// followed reports whether a stream is still being served its output.
func (e *execution) followed() bool {
	for _, p := range e.pumps() {
		if p.ring.followed() {
			return true
		}
	}
	return false
}
