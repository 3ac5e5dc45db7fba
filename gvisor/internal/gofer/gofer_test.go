package gofer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
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

// Everything a sentry can ask for changes nothing on a read-only volume, and
// the descriptors it is given are of no more use to it.
func TestReadOnlyHoldsAgainstTheSentry(t *testing.T) {
	dir, _ := tree(t)
	before := look(t, dir)
	p := begin(t, dir, true)
	f, d := p.walk(t, "f"), p.walk(t, "d")
	refusals(t, map[string]func() error{
		"open to write":    func() error { return second(f.OpenAt(ctx, unix.O_WRONLY)) },
		"open for both":    func() error { return second(f.OpenAt(ctx, unix.O_RDWR)) },
		"open to truncate": func() error { return second(f.OpenAt(ctx, unix.O_RDONLY|unix.O_TRUNC)) },
		"create": func() error {
			_, _, _, err := d.OpenCreateAt(ctx, "n", unix.O_RDWR, 0o644, 0, 0)
			return err
		},
		"mkdir":       func() error { _, err := d.MkdirAt(ctx, "n", 0o755, 0, 0); return err },
		"mknod":       func() error { _, err := d.MknodAt(ctx, "n", linux.S_IFREG|0o644, 0, 0, 0, 0); return err },
		"symlink":     func() error { _, err := d.SymlinkAt(ctx, "n", "f", 0, 0); return err },
		"link":        func() error { _, err := d.LinkAt(ctx, f.ID(), "n"); return err },
		"unlink":      func() error { return p.root.UnlinkAt(ctx, "f", 0) },
		"rename":      func() error { return p.root.RenameAt(ctx, "f", p.root.ID(), "n", 0) },
		"exchange":    func() error { return p.root.RenameAt(ctx, "f", p.root.ID(), "out", unix.RENAME_EXCHANGE) },
		"setxattr":    func() error { return f.SetXattr(ctx, "user.mine", "2", 0) },
		"removexattr": func() error { return f.RemoveXattr(ctx, "user.mine") },
		"attributes": func() error {
			_, failed, err := f.SetStat(ctx, &linux.Statx{Mask: linux.STATX_MODE | linux.STATX_SIZE | linux.STATX_MTIME})
			return errors.Join(failed, err)
		},
	})
	_, fd, err := f.OpenAt(ctx, unix.O_RDONLY)
	if err != nil || fd < 0 {
		t.Fatalf("open to read: got %d, %v", fd, err)
	}
	defer unix.Close(fd)
	self := "/proc/self/fd/" + strconv.Itoa(fd)
	refusals(t, map[string]func() error{ // of the test itself, which may be root
		"write":            func() error { return second2(unix.Write(fd, []byte("x"))) },
		"ftruncate":        func() error { return unix.Ftruncate(fd, 0) },
		"fchmod":           func() error { return unix.Fchmod(fd, 0o777) },
		"fchown":           func() error { return unix.Fchown(fd, 1, 1) },
		"futimes":          func() error { return unix.Futimes(fd, make([]unix.Timeval, 2)) },
		"fsetxattr":        func() error { return unix.Fsetxattr(fd, "user.mine", []byte("2"), 0) },
		"fallocate":        func() error { return unix.Fallocate(fd, 0, 0, 1<<20) },
		"open it to write": func() error { return second2(unix.Open(self, unix.O_RDWR, 0)) },
		"map it to write":  func() error { return second(0, mapShared(fd)) },
		"link it": func() error {
			return unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, filepath.Join(dir, "n"), unix.AT_SYMLINK_FOLLOW)
		},
		"chmod through self": func() error { return unix.Chmod(self, 0o777) },
	})
	stillThere(t, before, dir)
}

func mapShared(fd int) error {
	m, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		_ = unix.Munmap(m)
	}
	return err
}

func second[T any](_ T, rest ...any) error {
	err, _ := rest[len(rest)-1].(error)
	return err
}

func second2(_ int, err error) error { return err }

func refusals(t *testing.T, attempts map[string]func() error) {
	t.Helper()
	for what, f := range attempts {
		if f() == nil {
			t.Errorf("%s: got nil, want a refusal", what)
		}
	}
}

// No name leads out, whatever it is.
func TestNoNameLeadsOut(t *testing.T) {
	dir, canary := tree(t)
	before := look(t, filepath.Dir(canary))
	p := begin(t, dir, false)
	for _, name := range []string{"..", ".", "", "/", "../canary", "/canary", "d/../../canary", canary, "out/", "up/canary"} {
		if inode, err := p.root.Walk(ctx, name); err == nil {
			t.Errorf("walk %q: got a %v, want a refusal", name, linux.FileMode(inode.Stat.Mode))
		}
	}
	for _, name := range []string{"out", "absolute", "up"} {
		link := p.walk(t, name)
		refusals(t, map[string]func() error{
			"walk through " + name: func() error { _, err := link.Walk(ctx, "canary"); return err },
			"open " + name:         func() error { return second(link.OpenAt(ctx, unix.O_RDONLY)) },
			"write to " + name:     func() error { return second(link.OpenAt(ctx, unix.O_RDWR)) },
			"create below " + name: func() error { _, _, _, err := link.OpenCreateAt(ctx, "n", unix.O_RDWR, 0o644, 0, 0); return err },
			"mkdir below " + name:  func() error { _, err := link.MkdirAt(ctx, "n", 0o755, 0, 0); return err },
			"create over " + name:  func() error { _, _, _, err := p.root.OpenCreateAt(ctx, name, unix.O_RDWR, 0o644, 0, 0); return err },
			"chmod " + name: func() error {
				_, e, err := link.SetStat(ctx, &linux.Statx{Mask: linux.STATX_MODE, Mode: 0o777})
				return errors.Join(e, err)
			},
			"truncate " + name: func() error {
				_, e, err := link.SetStat(ctx, &linux.Statx{Mask: linux.STATX_SIZE})
				return errors.Join(e, err)
			},
			"attribute of " + name:   func() error { return link.SetXattr(ctx, "user.mine", "2", 0) },
			"rename below " + name:   func() error { return p.root.RenameAt(ctx, "f", link.ID(), "canary", 0) },
			"unlink through " + name: func() error { return link.UnlinkAt(ctx, "canary", 0) },
		})
		if stats, err := p.root.WalkStat(ctx, []string{name, "canary"}); err != nil || len(stats) != 1 {
			t.Errorf("walk through %s: got %d, %v, want it to end at the link", name, len(stats), err)
		}
	}
	stillThere(t, before, filepath.Dir(canary))
}

// A directory that the host moves away stays what it is: names in it lead down
// only.
func TestMovedDirectoryLeadsNowhereElse(t *testing.T) {
	dir, canary := tree(t)
	p := begin(t, dir, false)
	d := p.walk(t, "d")
	if err := os.Rename(filepath.Join(dir, "d"), filepath.Join(filepath.Dir(canary), "moved")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..", filepath.Join(dir, "d")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Walk(ctx, ".."); err == nil {
		t.Error("walk up: got nil, want a refusal")
	}
	if _, err := d.Walk(ctx, "canary"); err == nil {
		t.Error("walk in the directory that was moved: got the canary, want nothing")
	}
	link := p.walk(t, "d")
	if _, err := link.Walk(ctx, "canary"); err == nil {
		t.Error("walk through the link that took its place: got the canary, want a refusal")
	}
}

// Nothing that a host's program may act upon can be opened, made or set.
func TestOnlyFilesWithoutPowers(t *testing.T) {
	dir, _ := tree(t)
	p := begin(t, dir, false)
	fifo, f := p.walk(t, "fifo"), p.walk(t, "f")
	if linux.FileMode(stats(t, fifo).Mode).FileType() != linux.S_IFIFO {
		t.Error("FIFO: it is not shown as one")
	}
	// A writer waits for somebody to read: nobody has.
	if fd, err := unix.Open(filepath.Join(dir, "fifo"), unix.O_WRONLY|unix.O_NONBLOCK, 0); !errors.Is(err, unix.ENXIO) {
		unix.Close(fd)
		t.Errorf("writer of a FIFO that the box has looked at: got %v, want ENXIO", err)
	}
	mknod := func(mode linux.FileMode, major, minor uint32) func() error {
		return func() error { _, err := p.root.MknodAt(ctx, "n", mode|0o666, 0, 0, minor, major); return err }
	}
	refusals(t, map[string]func() error{
		"read a FIFO":    func() error { return second(fifo.OpenAt(ctx, unix.O_RDONLY)) },
		"write a FIFO":   func() error { return second(fifo.OpenAt(ctx, unix.O_RDWR)) },
		"link a FIFO":    func() error { _, err := p.root.LinkAt(ctx, fifo.ID(), "n"); return err },
		"make a FIFO":    mknod(linux.S_IFIFO, 0, 0),
		"make a socket":  mknod(linux.S_IFSOCK, 0, 0),
		"make /dev/null": mknod(linux.S_IFCHR, 1, 3),
		"make a disk":    mknod(linux.S_IFBLK, 8, 0),
		"make a hole":    mknod(linux.S_IFCHR, 0, 0), // of an overlay
		"leave a hole":   func() error { return p.root.RenameAt(ctx, "f", p.root.ID(), "n", unix.RENAME_WHITEOUT) },
		"bind a socket":  func() error { _, _, err := p.root.BindAt(ctx, unix.SOCK_STREAM, "n", 0o666, 0, 0); return err },
		"connect":        func() error { return second2(fifo.Connect(ctx, unix.SOCK_STREAM, 0, 0)) },
		"capability":     func() error { return f.SetXattr(ctx, "security.capability", "x", 0) },
		"acl":            func() error { return f.SetXattr(ctx, "system.posix_acl_access", "x", 0) },
		"trusted":        func() error { return f.SetXattr(ctx, "trusted.overlay.opaque", "y", 0) },
		"punch a hole": func() error {
			id, fd, err := f.OpenAt(ctx, unix.O_RDWR)
			if err != nil {
				return nil
			}
			unix.Close(fd)
			open := p.client.NewFD(id)
			return open.Allocate(ctx, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1)
		},
	})
	if _, failed, err := f.SetStat(ctx, &linux.Statx{Mask: linux.STATX_MODE | linux.STATX_UID, Mode: 0o6755, UID: 1}); err != nil || failed != nil {
		t.Errorf("chmod: %v, %v", failed, err)
	}
	_, id, fd, err := p.root.OpenCreateAt(ctx, "made", unix.O_RDWR, 0o6755, 33, 33)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	p.client.CloseFD(ctx, id, false)
	for _, name := range []string{"f", "made"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Fatal(err)
		}
		if st.Mode&0o7777 != 0o755 || int(st.Uid) != os.Geteuid() {
			t.Errorf("%s on the host: got mode %o of %d, want 755 of the user of the test", name, st.Mode, st.Uid)
		}
	}
	if _, err := os.Lstat(filepath.Join(dir, "n")); err == nil {
		t.Error("a refused file is on the host")
	}
}

func stats(t *testing.T, fd lisafs.ClientFD) (st lisafs.Statx) {
	t.Helper()
	if err := fd.StatTo(ctx, &st); err != nil {
		t.Fatal(err)
	}
	return st
}

// A box that opens ever more gets an error, and its gofer goes on.
func TestOpenFilesAreBounded(t *testing.T) {
	dir, _ := tree(t)
	p := begin(t, dir, false)
	var ids []lisafs.FDID
	for len(ids) <= MaxFiles {
		inode, err := p.root.Walk(ctx, "f")
		if err != nil {
			if !errors.Is(err, unix.EMFILE) {
				t.Errorf("walk %d: got %v, want EMFILE", len(ids), err)
			}
			break
		}
		ids = append(ids, inode.ControlFD)
	}
	if len(ids) > MaxFiles {
		t.Errorf("known files: got %d, want a bound of %d", len(ids), MaxFiles)
	}
	for _, id := range ids[:100] {
		p.client.CloseFD(ctx, id, false)
	}
	var st lisafs.Statx
	if err := p.root.StatTo(ctx, &st); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// What is mounted on a directory comes along, but not what shows the kernel.
func TestKernelsFilesAreNotOpened(t *testing.T) {
	if _, err := os.Stat("/proc/self"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root, to have the host's /proc in a volume")
	}
	p := begin(t, "/", true)
	for _, path := range []string{"proc/version", "proc/self/environ", "proc/1/mem", "sys/kernel/uevent_seqnum", "proc/sys/kernel/hostname"} {
		if p.open(path) == nil {
			t.Errorf("open /%s: got nil, want a refusal", path)
		}
	}
	if err := p.open("etc/passwd"); err != nil {
		t.Errorf("open /etc/passwd: %v", err)
	}
}

// open looks up a path and opens what is there.
func (p *peer) open(path string) error {
	at := p.root
	for name := range strings.SplitSeq(path, "/") {
		inode, err := at.Walk(ctx, name)
		if err != nil {
			return err
		}
		at = p.client.NewFD(inode.ControlFD)
	}
	_, fd, err := at.OpenAt(ctx, unix.O_RDONLY)
	if fd >= 0 {
		unix.Close(fd)
	}
	return err
}

func TestGoferEndsWithItsConnections(t *testing.T) {
	dir, _ := tree(t)
	p := begin(t, dir, false)
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p.client.Close()
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(5*time.Second/time.Millisecond)); err != nil || n != 1 {
		t.Errorf("gofer without connections: got %d, %v, want it to end", n, err)
	}
}
