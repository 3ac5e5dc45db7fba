package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// beneath is a directory that no name leads out of, whatever symbolic links
// are below it. It is what os.Root is, for a kernel that os.Root cannot trust:
// gVisor's follows a link opened with O_NOFOLLOW|O_DIRECTORY, on which os.Root
// relies at every step. openat2 it resolves right, and in one system call.
type beneath struct {
	fd      int
	resolve uint64

	parent     int // of the last name, since most names have siblings; -1: none
	parentName string
}

// openBeneath opens the directory at path, which may be reached by links.
func openBeneath(path string) (*beneath, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	b := &beneath{fd: fd, resolve: unix.RESOLVE_BENEATH, parent: -1}
	if path == "/" {
		b.resolve = unix.RESOLVE_IN_ROOT // nothing is outside: absolute links are welcome
	}
	return b, nil
}

func (b *beneath) close() {
	b.forget()
	unix.Close(b.fd)
}

func (b *beneath) forget() {
	if b.parent >= 0 {
		unix.Close(b.parent)
	}
	b.parent = -1
}

// openDir opens the directory called name. The caller closes it.
func (b *beneath) openDir(name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: b.resolve | unix.RESOLVE_NO_MAGICLINKS,
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(b.fd, name, &how)
		switch {
		case err == unix.EINTR, err == unix.EAGAIN && tries < 100: // EAGAIN: a rename got in between
			continue
		case err == unix.EXDEV:
			return -1, fail(guest.KindInvalid, "leads out of the destination")
		case err != nil:
			return -1, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return fd, nil
	}
}

// in returns the directory that name is in, which stays b's, and its last part.
func (b *beneath) in(name string) (dir int, base string, err error) {
	parent, base := filepath.Dir(name), filepath.Base(name)
	if parent == "." {
		return b.fd, base, nil
	}
	if b.parent >= 0 && b.parentName == parent {
		return b.parent, base, nil
	}
	b.forget()
	fd, err := b.openDir(parent)
	if err != nil {
		return -1, "", err
	}
	b.parent, b.parentName = fd, parent
	return fd, base, nil
}

// at calls f, which acts on the last part of name in its directory.
func (b *beneath) at(op, name string, f func(dir int, base string) error) error {
	dir, base, err := b.in(name)
	if err != nil {
		return err
	}
	for {
		err := f(dir, base)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &os.PathError{Op: op, Path: name, Err: err}
		}
	}
}

// create makes a regular file and fails if anything has the name.
func (b *beneath) create(name string, perm os.FileMode) (*os.File, error) {
	var fd int
	err := b.at("create", name, func(dir int, base string) (err error) {
		flag := unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
		fd, err = unix.Openat(dir, base, flag, uint32(perm.Perm()))
		return err
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (b *beneath) mkdir(name string, perm os.FileMode) error {
	return b.at("mkdir", name, func(dir int, base string) error {
		return unix.Mkdirat(dir, base, uint32(perm.Perm()))
	})
}

func (b *beneath) symlink(target, name string) error {
	return b.at("symlink", name, func(dir int, base string) error {
		return unix.Symlinkat(target, dir, base)
	})
}

// link gives the file called old another name.
func (b *beneath) link(old, name string) error {
	from, err := b.openDir(filepath.Dir(old))
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", old, err)
	}
	defer unix.Close(from)
	return b.at("link", name, func(dir int, base string) error {
		return unix.Linkat(from, filepath.Base(old), dir, base, 0)
	})
}

// rename gives a file the name of another in the same directory.
func (b *beneath) rename(old, name string) error {
	return b.at("rename", name, func(dir int, base string) error {
		return unix.Renameat(dir, filepath.Base(old), dir, base)
	})
}

func (b *beneath) remove(name string) error {
	return b.at("remove", name, func(dir int, base string) error {
		return unix.Unlinkat(dir, base, 0)
	})
}

// isDir reports whether name itself is a directory, not a link to one.
func (b *beneath) isDir(name string) bool {
	var st unix.Stat_t
	err := b.at("stat", name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

func (b *beneath) chown(name string, who *account) error {
	return b.at("chown", name, func(dir int, base string) error {
		return unix.Fchownat(dir, base, int(who.uid), int(who.gid), unix.AT_SYMLINK_NOFOLLOW)
	})
}

// chtimes sets the modification time, of a link itself too. The zero time
// changes nothing.
func (b *beneath) chtimes(name string, mtime time.Time) error {
	if mtime.IsZero() {
		return nil
	}
	return b.at("chtimes", name, func(dir int, base string) error {
		return unix.UtimesNanoAt(dir, base, times(mtime), unix.AT_SYMLINK_NOFOLLOW)
	})
}

func times(mtime time.Time) []unix.Timespec {
	ts := unix.NsecToTimespec(mtime.UnixNano())
	return []unix.Timespec{ts, ts}
}

// setDir gives a directory its final mode and time.
func (b *beneath) setDir(name string, mode os.FileMode, mtime time.Time) error {
	fd, err := b.openDir(name)
	if err != nil {
		return err
	}
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	if masked(mode) || mode&0o700 != 0o700 {
		if err := d.Chmod(mode); err != nil {
			return err
		}
	}
	if mtime.IsZero() {
		return nil
	}
	err = unix.UtimesNanoAt(fd, ".", times(mtime), 0)
	if errors.Is(err, unix.EACCES) { // not even we may enter it now; its time is a nicety
		err = nil
	}
	return err
}
