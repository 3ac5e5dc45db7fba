package hostos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another open file description holds the lock.
var ErrLocked = errors.New("locked by another process")

// Lock is an exclusive lock on a file. The kernel releases it when the holder
// closes it or dies, however it dies. It is an open-file-description lock:
// two of them in one process exclude each other too.
type Lock struct {
	f *os.File
}

// TryLock locks the existing file at path, or returns [ErrLocked] at once. The
// error is [fs.ErrNotExist] when the file is missing, also when it was removed
// while we took the lock: a lock on a file without a name guards nothing.
func TryLock(path string) (*Lock, error) { return lock(path, unix.F_OFD_SETLK) }

// WaitLock locks the existing file at path, waiting for whoever holds it. It
// is for short critical sections; it cannot be interrupted.
func WaitLock(path string) (*Lock, error) { return lock(path, unix.F_OFD_SETLKW) }

func lock(path string, cmd int) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err = unix.FcntlFlock(f.Fd(), cmd, &lk)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = ErrLocked
	}
	if err == nil {
		err = sameFile(f, path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Lock{f}, nil
}

// sameFile checks that path still names the open file f.
func sameFile(f *os.File, path string) error {
	have, err := f.Stat()
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(have, now) {
		return fs.ErrNotExist
	}
	return nil
}

// Unlock releases the lock. It is safe to call more than once.
func (l *Lock) Unlock() { l.f.Close() }

// Removed tells whether the file of the lock has no name any more, which is not
// so when a directory above it was only renamed.
func (l *Lock) Removed() bool {
	var st unix.Stat_t
	return unix.Fstat(int(l.f.Fd()), &st) == nil && st.Nlink == 0
}

// Locked tells whether somebody holds the lock on the file at path, without
// taking it. A missing file is not locked.
func Locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lk); err != nil {
		return false, fmt.Errorf("query lock %s: %w", path, err)
	}
	return lk.Type != unix.F_UNLCK, nil
}
