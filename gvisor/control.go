package gvisor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/pkg/urpc"

	"github.com/boxlite-go/boxlite/internal/undo"
)

// control is our side of the sentry's control server. Each of its two
// connections serialises its calls, so a save that takes seconds has one of
// its own.
type control struct {
	calls, saves *urpc.Client
}

// newControl makes the server's listening socket in dir, connects to it, and
// removes its name: nobody else can ever connect. The caller closes listener.
func newControl(dir string) (_ *control, listener *os.File, err error) {
	var u undo.Stack
	defer u.Run()
	d, err := os.Open(dir)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	// A unix address has room for 107 bytes; dir may be longer.
	addr := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/control", d.Fd())}
	l, err := streamSocket("control listener")
	if err != nil {
		return nil, nil, err
	}
	u.Add(func() { l.Close() })
	if err := unix.Bind(int(l.Fd()), addr); err != nil {
		return nil, nil, fmt.Errorf("control socket in %s: %w", dir, err)
	}
	defer os.Remove(filepath.Join(dir, "control"))
	if err := unix.Listen(int(l.Fd()), 2); err != nil {
		return nil, nil, fmt.Errorf("control socket: %w", err)
	}
	c := &control{}
	for _, client := range []**urpc.Client{&c.calls, &c.saves} {
		if *client, err = connect(addr); err != nil {
			return nil, nil, fmt.Errorf("control socket: %w", err)
		}
		u.Add(func() { (*client).Close() })
	}
	u.Keep()
	return c, l, nil
}

func streamSocket(name string) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func connect(addr unix.Sockaddr) (*urpc.Client, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, addr); err != nil {
		unix.Close(fd)
		return nil, err
	}
	s, err := unet.NewSocket(fd)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return urpc.NewClient(s), nil
}

// close ends both connections; calls under way fail.
func (c *control) close() {
	c.calls.Close()
	c.saves.Close()
}
