package hostos

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// WriteFileAtomic puts data at path so that a crash at any moment leaves the
// old file or the new one, and the new one is on stable storage when it
// returns nil.
func WriteFileAtomic(path string, data []byte, perm os.FileMode) error {
	if err := replace(path, data, perm, (*os.File).Sync); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// ReplaceFile puts data at path so that a reader sees the old file or the new
// one. It does not outlast a power cut: it is for facts that a restart of the
// host makes void.
func ReplaceFile(path string, data []byte, perm os.FileMode) error {
	return replace(path, data, perm, func(*os.File) error { return nil })
}

func replace(path string, data []byte, perm os.FileMode, sync func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil {
		err = sync(f)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Born tells when the file at path, which may be a symbolic link, was made;
// where the file system does not know, when it was last changed.
func Born(path string) (time.Time, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BTIME|unix.STATX_MTIME, &st)
	if err != nil {
		return time.Time{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	t := st.Btime
	if st.Mask&unix.STATX_BTIME == 0 {
		t = st.Mtime
	}
	return time.Unix(t.Sec, int64(t.Nsec)), nil
}

// SyncDir makes the names in dir durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
