package agent

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// stdoutPipe is how much a pipe for standard output holds: four times the
// throughput of the default 64 KiB in a sandbox.
const stdoutPipe = 1 << 20

// stdio is the agent's side of what a command reads and writes.
type stdio struct {
	tty    *os.File // nil without a terminal
	stdin  *os.File // nil when standard input is empty; the terminal with one
	stdout *os.File // non-blocking; the terminal with one
	stderr *os.File // nil with a terminal

	child []int // the command's descriptors 0, 1, 2
}

// openStdio opens both sides. Until closeChild and close were called it holds
// descriptors; when it fails it holds none.
func openStdio(c *guest.Command, who *account) (s *stdio, err error) {
	s = &stdio{}
	var u undo.Stack
	defer u.Run()
	u.Add(s.close)
	u.Add(s.closeChild)
	if c.TTY != nil {
		err = s.openTerminal(*c.TTY, who)
	} else {
		err = s.openPipes(c.Stdin)
	}
	if err != nil {
		return nil, err
	}
	u.Keep()
	return s, nil
}

func (s *stdio) openTerminal(size guest.Size, who *account) error {
	ptm, pts, err := openPTY(size, who)
	if err != nil {
		return err
	}
	s.tty, s.stdin, s.stdout = ptm, ptm, ptm
	s.child = []int{pts, pts, pts}
	return nil
}

func (s *stdio) openPipes(stdin bool) error {
	in, err := s.openStdin(stdin)
	if err != nil {
		return err
	}
	s.child = append(s.child, in)
	for _, out := range []**os.File{&s.stdout, &s.stderr} {
		r, w, err := pipe()
		if err != nil {
			return err
		}
		s.child = append(s.child, w)
		if *out, err = nonblock(r, "output"); err != nil {
			return err
		}
	}
	// A refusal (the box's own limit on pipes) costs speed alone.
	_, _ = unix.FcntlInt(uintptr(s.child[1]), unix.F_SETPIPE_SZ, stdoutPipe)
	return nil
}

func (s *stdio) openStdin(wanted bool) (int, error) {
	if !wanted {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("empty standard input: %s: %w", os.DevNull, err)
		}
		return fd, nil
	}
	r, w, err := pipe()
	if err != nil {
		return 0, err
	}
	s.stdin, err = nonblock(w, "stdin")
	if err != nil {
		syscall.Close(r)
		return 0, err
	}
	return r, nil
}

func pipe() (r, w int, err error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC); err != nil {
		return 0, 0, fmt.Errorf("make a pipe: %w", err)
	}
	return p[0], p[1], nil
}

// nonblock makes fd a file that the runtime's poller serves. It owns fd.
func nonblock(fd int, name string) (*os.File, error) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// closeChild closes the command's side.
func (s *stdio) closeChild() {
	for i, fd := range s.child {
		if i == 0 || fd != s.child[0] {
			syscall.Close(fd)
		}
	}
	s.child = nil
}

// close closes the agent's side.
func (s *stdio) close() {
	for _, f := range []*os.File{s.stdin, s.stdout, s.stderr} {
		if f != nil {
			f.Close() // the terminal stands here twice: the second close says so, no more
		}
	}
}
