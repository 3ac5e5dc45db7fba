package gvisor

import (
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
)

// process is a started sentry. It dies with the thread that started it (that
// is what a parent death signal watches), so one thread is kept for each
// process as long as it lives.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has been waited for
	words  words
}

// spawn starts cmd, in what around brings the calling thread into (cgroups,
// processors) for just that moment. It reads cmd's standard error.
func spawn(cmd *exec.Cmd, around func(start func() error) error) (*process, error) {
	p := &process{cmd: cmd, exited: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = w
	started := make(chan error, 1)
	// Ends when the process does; exited says so.
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer close(p.exited)
		defer r.Close()
		err := around(cmd.Start)
		w.Close()
		started <- err
		if err != nil {
			return
		}
		// Ends when the sentry and all it forked have closed their end.
		var reader sync.WaitGroup
		reader.Go(func() { _, _ = io.Copy(&p.words, r) })
		_ = cmd.Wait() // ProcessState has what it says
		reader.Wait()
	}()
	if err := <-started; err != nil {
		<-p.exited
		return nil, err
	}
	return p, nil
}

// words keeps the first of what a process said, which in a Go panic is what it
// is about. It is safe for concurrent use.
type words struct {
	mu   sync.Mutex
	head []byte
}

// maxWords bounds what is kept of a process that may be hostile; a Go panic's
// message and first stack fit.
const maxWords = 8 << 10

// Write implements io.Writer and never fails.
func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head = append(w.head, b[:min(len(b), maxWords-len(w.head))]...)
	return len(b), nil
}

// String is printable whatever the process wrote.
func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.ToValidUTF8(string(w.head), "?")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}
