package gofer

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/fsutil"
	"gvisor.dev/gvisor/pkg/lisafs"
	"gvisor.dev/gvisor/pkg/marshal/primitive"
)

// file is a file or directory that the other side has open.
type file struct {
	lisafs.OpenFD

	fd  int
	dev device
}

var _ lisafs.OpenFDImpl = (*file)(nil)

// newFile takes fd.
func (c *control) newFile(fd int, flags uint32) *file {
	f := &file{fd: fd, dev: c.dev}
	f.Init(c.FD(), flags, f)
	return f
}

// FD implements lisafs.OpenFDImpl.
func (f *file) FD() *lisafs.OpenFD {
	if f == nil {
		return nil
	}
	return &f.OpenFD
}

// Close implements lisafs.OpenFDImpl.
func (f *file) Close() { unix.Close(f.fd) }

// Stat implements lisafs.OpenFDImpl.
func (f *file) Stat() (lisafs.Statx, error) { return stat(f.fd) }

// Sync implements lisafs.OpenFDImpl.
func (f *file) Sync() error { return unix.Fsync(f.fd) }

// Write implements lisafs.OpenFDImpl.
func (f *file) Write(b []byte, off uint64) (uint64, error) {
	n, err := unix.Pwrite(f.fd, b, int64(off))
	return uint64(max(n, 0)), err
}

// Read implements lisafs.OpenFDImpl.
func (f *file) Read(b []byte, off uint64) (uint64, error) {
	n, err := unix.Pread(f.fd, b, int64(off))
	return uint64(max(n, 0)), err
}

// Allocate implements lisafs.OpenFDImpl. The system call filter knows only the
// plain mode.
func (f *file) Allocate(mode, off, length uint64) error {
	if mode != 0 {
		return unix.EOPNOTSUPP
	}
	return unix.Fallocate(f.fd, 0, int64(off), int64(length))
}

// Flush implements lisafs.OpenFDImpl: nothing is held back here.
func (*file) Flush() error { return nil }

// Renamed implements lisafs.OpenFDImpl: nothing here depends on names.
func (*file) Renamed() {}

// Getdent64 implements lisafs.OpenFDImpl.
func (f *file) Getdent64(count uint32, seek0 bool, record func(lisafs.Dirent64)) error {
	if seek0 {
		if _, err := unix.Seek(f.fd, 0, unix.SEEK_SET); err != nil {
			return err
		}
	}
	var buf [8 << 10]byte
	for done := 0; done < int(count); {
		n, err := unix.Getdents(f.fd, buf[:min(len(buf), int(count)-done)])
		if err == unix.EINVAL && done > 0 {
			return nil // the next entry does not fit into what is left
		}
		if err != nil || n == 0 {
			return err
		}
		fsutil.ParseDirents(buf[:n], func(ino uint64, off int64, kind uint8, name string, length uint16) {
			done += int(length)
			// Of what is mounted on an entry the device is another; to find
			// out would take a system call for each. A walk will tell.
			record(lisafs.Dirent64{
				Ino: primitive.Uint64(ino), Off: primitive.Uint64(off), Type: primitive.Uint8(kind),
				Name: lisafs.SizedString(name), DevMajor: primitive.Uint32(f.dev.major), DevMinor: primitive.Uint32(f.dev.minor),
			})
		})
	}
	return nil
}
