package gofer

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

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
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
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
	f := p.client.NewFD(ids[0])
	refusals(t, map[string]func() error{
		"mkdir": func() error { _, err := p.root.MkdirAt(ctx, "n", 0o755, 0, 0); return want(unix.EMFILE, err) },
		"mknod": func() error {
			_, err := p.root.MknodAt(ctx, "n", linux.S_IFREG|0o644, 0, 0, 0, 0)
			return want(unix.EMFILE, err)
		},
		"symlink": func() error { _, err := p.root.SymlinkAt(ctx, "n", "f", 0, 0); return want(unix.EMFILE, err) },
		"link":    func() error { _, err := p.root.LinkAt(ctx, f.ID(), "n"); return want(unix.EMFILE, err) },
		"create": func() error {
			_, _, _, err := p.root.OpenCreateAt(ctx, "n", unix.O_RDWR, 0o644, 0, 0)
			return want(unix.EMFILE, err)
		},
	})
	if got, err := os.ReadDir(dir); err != nil || len(got) != len(names) {
		t.Errorf("what could not be told of is on the host: got %v, %v, want %v", got, err, names)
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
	// A directory there is no directory: it would be a cgroup, for one.
	w := begin(t, "/", false)
	for _, path := range []string{"sys/fs/cgroup/memory", "sys/fs/cgroup/unified", "proc/sys", "sys/kernel"} {
		dir, err := w.find(path)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		if err := unix.Statfs("/"+path, &st); err != nil || !Kernel(st.Type) {
			continue
		}
		refusals(t, map[string]func() error{
			"mkdir in " + path: func() error { _, err := dir.MkdirAt(ctx, "gofer-test", 0o755, 0, 0); return want(unix.EPERM, err) },
			"rmdir in " + path: func() error { return want(unix.EPERM, dir.UnlinkAt(ctx, "gofer-test", unix.AT_REMOVEDIR)) },
			"create in " + path: func() error {
				_, _, _, err := dir.OpenCreateAt(ctx, "gofer-test", unix.O_RDWR, 0o644, 0, 0)
				return want(unix.EPERM, err)
			},
			"rename in " + path: func() error { return want(unix.EPERM, dir.RenameAt(ctx, "a", dir.ID(), "b", 0)) },
		})
		if os.Remove("/"+path+"/gofer-test") == nil {
			t.Errorf("mkdir in %s: it was made", path)
		}
	}
	if err := p.open("etc/passwd"); err != nil {
		t.Errorf("open /etc/passwd: %v", err)
	}
}

// want is nil, which is no refusal, unless err is the one.
func want(errno unix.Errno, err error) error {
	if errors.Is(err, errno) {
		return err
	}
	return nil
}

// find looks up a path.
func (p *peer) find(path string) (lisafs.ClientFD, error) {
	at := p.root
	for name := range strings.SplitSeq(path, "/") {
		inode, err := at.Walk(ctx, name)
		if err != nil {
			return at, err
		}
		at = p.client.NewFD(inode.ControlFD)
	}
	return at, nil
}

// open looks up a path and opens what is there.
func (p *peer) open(path string) error {
	at, err := p.find(path)
	if err != nil {
		return err
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
