package gofer

import (
	"math"
	"strings"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/fsutil"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// device is the file system a file lies on.
type device struct {
	major, minor uint32
	kernel       bool // one by which the kernel is read and changed
}

// stat tells of a file what the other side is to know.
func stat(fd int) (lisafs.Statx, error) {
	var s unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &s); err != nil {
		return lisafs.Statx{}, err
	}
	when := func(t unix.StatxTimestamp) lisafs.StatxTimestamp {
		return lisafs.StatxTimestamp{Sec: t.Sec, Nsec: t.Nsec}
	}
	return lisafs.Statx{
		Mask: s.Mask, Mode: s.Mode, Nlink: s.Nlink, Ino: s.Ino, // UID and GID are root's
		DevMinor: s.Dev_minor, DevMajor: s.Dev_major, RdevMinor: s.Rdev_minor, RdevMajor: s.Rdev_major,
		Size: s.Size, Blksize: s.Blksize, Blocks: s.Blocks,
		Atime: when(s.Atime), Mtime: when(s.Mtime), Ctime: when(s.Ctime), Btime: when(s.Btime),
	}, nil
}

// discover is stat for a file seen for the first time. It refuses block
// devices, of which the other side wants to know nothing, and finds out what
// kind of file system this is, where it is not the one of the parent.
func discover(fd int, parent device) (lisafs.Statx, device, error) {
	st, err := stat(fd)
	if err != nil {
		return st, parent, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		return st, parent, unix.EPERM
	}
	if st.DevMajor == parent.major && st.DevMinor == parent.minor {
		return st, parent, nil
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(fd, &s); err != nil {
		return st, parent, err
	}
	return st, device{st.DevMajor, st.DevMinor, Kernel(s.Type)}, nil
}

// Kernel tells whether a file system of this type (of statfs) shows the
// kernel's own state rather than files.
func Kernel(fsType int64) bool {
	switch fsType {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC,
		unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.BPF_FS_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.EFIVARFS_MAGIC, unix.SELINUX_MAGIC, unix.NSFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC:
		return true
	}
	return false
}

// fileMode is the mode that a new file or directory may have.
func fileMode(m linux.FileMode) uint32 {
	return uint32(m.Permissions()) | uint32(m)&unix.S_ISVTX
}

// SetStat implements lisafs.ControlFDImpl.
func (c *control) SetStat(s lisafs.SetStatReq) (failed uint32, why error) {
	fail := func(bits uint32, err error) {
		if err != nil {
			failed |= s.Mask & bits
			why = err
		}
	}
	if c.dev.kernel {
		return s.Mask, unix.EPERM
	}
	if s.Mask&unix.STATX_MODE != 0 {
		fail(unix.STATX_MODE, c.chmod(s.Mode))
	}
	if s.Mask&unix.STATX_SIZE != 0 {
		fail(unix.STATX_SIZE, c.truncate(s.Size))
	}
	if s.Mask&(unix.STATX_ATIME|unix.STATX_MTIME) != 0 {
		fail(unix.STATX_ATIME|unix.STATX_MTIME, c.utimes(s))
	}
	return failed, why // owners: see the package's rules
}

func (c *control) chmod(mode uint32) error {
	switch {
	case c.IsSymlink():
		return unix.EOPNOTSUPP
	case c.IsDir():
		mode &= 0o3777 // set-group-id only says whose group new files get
	case c.IsRegular():
		mode = fileMode(linux.FileMode(mode))
	default:
		return unix.EPERM
	}
	return unix.Fchmodat(c.jail.self, c.self(), mode, 0)
}

func (c *control) truncate(size uint64) error {
	fd, err := c.reopen(unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, int64(size))
}

func (c *control) utimes(s lisafs.SetStatReq) error {
	times := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	if s.Mask&unix.STATX_ATIME != 0 {
		times[0] = unix.Timespec{Sec: s.Atime.Sec, Nsec: s.Atime.Nsec}
	}
	if s.Mask&unix.STATX_MTIME != 0 {
		times[1] = unix.Timespec{Sec: s.Mtime.Sec, Nsec: s.Mtime.Nsec}
	}
	return fsutil.Utimensat(c.jail.self, c.self(), times, 0)
}

// userAttr begins the names of the only extended attributes there are here.
const userAttr = "user."

// withAttrs opens the file to work on its extended attributes.
func (c *control) withAttrs(name string, f func(fd int) error) error {
	if !strings.HasPrefix(name, userAttr) {
		return unix.EOPNOTSUPP
	}
	fd, err := c.reopen(unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fd)
}

// GetXattr implements lisafs.ControlFDImpl.
func (c *control) GetXattr(name string, size uint32, buf func(uint32) []byte) (n uint16, err error) {
	// The other side asks for the size by 0. One byte less than the kernel's
	// bound fits into the answer.
	if size == 0 || size > math.MaxUint16 {
		size = math.MaxUint16
	}
	err = c.withAttrs(name, func(fd int) error {
		m, err := unix.Fgetxattr(fd, name, buf(size))
		n = uint16(max(m, 0))
		return err
	})
	return n, err
}

// SetXattr implements lisafs.ControlFDImpl.
func (c *control) SetXattr(name, value string, flags uint32) error {
	return c.withAttrs(name, func(fd int) error { return unix.Fsetxattr(fd, name, []byte(value), int(flags)) })
}

// RemoveXattr implements lisafs.ControlFDImpl.
func (c *control) RemoveXattr(name string) error {
	return c.withAttrs(name, func(fd int) error { return unix.Fremovexattr(fd, name) })
}

// ListXattr implements lisafs.ControlFDImpl.
func (c *control) ListXattr(uint64) (names lisafs.StringArray, err error) {
	if !c.IsRegular() && !c.IsDir() {
		return nil, nil
	}
	err = c.withAttrs(userAttr, func(fd int) error {
		buf := make([]byte, linux.XATTR_LIST_MAX)
		n, err := unix.Flistxattr(fd, buf)
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
			if strings.HasPrefix(name, userAttr) {
				names = append(names, name)
			}
		}
		return nil
	})
	return names, err
}
