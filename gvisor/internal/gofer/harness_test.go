package gofer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/context"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/unet"
	"gvisor.dev/gvisor/runsc/config"
)

// goferArg0 marks a process that is to be a gofer.
const goferArg0 = "gofer-of-a-test"

// TestMain is a gofer, or the tests: they speak to one as a sentry does that a
// guest has taken over.
func TestMain(m *testing.M) {
	if os.Args[0] == goferArg0 {
		if err := Serve(3); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// peer is a connection to a gofer.
type peer struct {
	client *lisafs.Client
	root   lisafs.ClientFD
	pid    int
}

// begin starts a gofer that serves a directory or file.
func begin(t *testing.T, host string, readOnly bool) *peer {
	t.Helper()
	if config.CgoEnabled {
		t.Skip("needs a build without cgo, as gVisor does")
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[0]), "theirs")
	defer theirs.Close()
	fd, err := unix.Open(host, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := os.NewFile(uintptr(fd), host)
	defer path.Close()
	b, err := json.Marshal(Config{Volumes: []Volume{{Host: host, Path: 4, Socket: 5, ReadOnly: readOnly}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{goferArg0}
	cmd.ExtraFiles = []*os.File{list, path, theirs}
	var words strings.Builder
	cmd.Stderr = &words
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
		// Root keeps its ids to itself, as the engine does it.
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("needs user namespaces: %v", err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log("the gofer said:", words.String())
		}
	})
	theirs.Close()
	sock, err := unet.NewSocket(fds[1])
	if err != nil {
		t.Fatal(err)
	}
	client, root, _, err := lisafs.NewClient(sock)
	if err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(client.Close)
	return &peer{client, client.NewFD(root.ControlFD), cmd.Process.Pid}
}

var ctx = context.Background()

// walk looks up one name in the root.
func (p *peer) walk(t *testing.T, name string) lisafs.ClientFD {
	t.Helper()
	inode, err := p.root.Walk(ctx, name)
	if err != nil {
		t.Fatalf("walk %s: %v", name, err)
	}
	return p.client.NewFD(inode.ControlFD)
}

// tree makes a directory with a bit of everything, beside which lies a canary.
func tree(t *testing.T) (dir, canary string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, canary = filepath.Join(top, "volume"), filepath.Join(top, "canary")
	for _, err := range []error{
		os.Mkdir(dir, 0o755),
		os.Mkdir(filepath.Join(dir, "d"), 0o755),
		os.WriteFile(canary, []byte("canary"), 0o644),
		os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o644),
		os.WriteFile(filepath.Join(dir, "d", "g"), []byte("content"), 0o644),
		os.Symlink("../canary", filepath.Join(dir, "out")),
		os.Symlink(canary, filepath.Join(dir, "absolute")),
		os.Symlink("..", filepath.Join(dir, "up")),
		unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		unix.Setxattr(filepath.Join(dir, "f"), "user.mine", []byte("1"), 0),
	} {
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			t.Fatal(err)
		}
	}
	return dir, canary
}

// look describes all there is to know of a tree.
func look(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		st.Atim = unix.Timespec{} // this very look changes it
		buf := make([]byte, 4096)
		n, _ := unix.Lgetxattr(path, "user.mine", buf)
		var content []byte
		if st.Mode&unix.S_IFMT == unix.S_IFREG {
			content, err = os.ReadFile(path)
		}
		all = append(all, fmt.Sprintf("%s %+v %q %q", path, st, content, buf[:max(n, 0)]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// stillThere looks again.
func stillThere(t *testing.T, before []string, dir string) {
	t.Helper()
	if after := look(t, dir); !slices.Equal(after, before) {
		t.Errorf("on the host: got\n%s\nwant\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}
