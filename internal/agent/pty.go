package agent

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// openPTY opens a terminal: the side of the agent, non-blocking, and the side
// of the command.
func openPTY(size guest.Size, owner *account) (ptm *os.File, pts int, err error) {
	fd, err := syscall.Open("/dev/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open a terminal: /dev/ptmx: %w", err)
	}
	defer func() {
		if err != nil {
			syscall.Close(fd)
		}
	}()
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, 0, fmt.Errorf("open a terminal: %w", err)
	}
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, 0, fmt.Errorf("unlock a terminal: %w", err)
	}
	if err = setSize(fd, size); err != nil {
		return nil, 0, err
	}
	name := "/dev/pts/" + strconv.Itoa(n)
	pts, err = syscall.Open(name, syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open a terminal: %s: %w", name, err)
	}
	_ = syscall.Fchown(pts, int(owner.uid), int(owner.gid)) // programs reopen /dev/tty; where it is refused they cannot, no more
	return os.NewFile(uintptr(fd), name), pts, nil
}

func setSize(fd int, size guest.Size) error {
	if size.Rows == 0 {
		size.Rows = 24
	}
	if size.Cols == 0 {
		size.Cols = 80
	}
	err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	if err != nil {
		return fmt.Errorf("size of a terminal: %w", err)
	}
	return nil
}

// resize sets the size of the terminal that f controls.
func resize(f *os.File, size guest.Size) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	if err := rc.Control(func(fd uintptr) { serr = setSize(int(fd), size) }); err != nil {
		return err
	}
	return serr
}
