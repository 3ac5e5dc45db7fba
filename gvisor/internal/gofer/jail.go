package gofer

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/seccomp"
	gvisorfilter "gvisor.dev/gvisor/runsc/fsgofer/filter"
)

// jail is the process after it has locked itself in. It implements
// lisafs.ConnectionImpl.
type jail struct {
	// self is /proc/self/fd, by which a descriptor is opened again with other
	// rights. It is a mount of that one directory: ".." leads nowhere.
	self int
}

// MaxFiles is how many descriptors a gofer may have. A file the box knows takes
// one, an open one two more. It is far above what programs keep open, and
// bounds what a box can make the kernel hold: a descriptor is a quarter KiB.
const MaxFiles = 64 << 10

// Limit is how many descriptors a gofer will have on this host.
func Limit() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 1024 // what Linux gives by default
	}
	return int(min(l.Max, MaxFiles))
}

// newRoot is where the tree of volumes is put together: a directory that is
// there on every host and holds no volume. Nobody else sees it.
const newRoot = "/proc"

// mountPath is where the volume of that number is found after pivot_root.
func mountPath(i int) string { return "/" + strconv.Itoa(i) }

// enter leaves the process with the volumes as all it can see. It needs
// namespaces of its own, with all capabilities in them.
func enter(volumes []Volume) (*jail, error) {
	unix.Umask(0) // modes come from the box, which has applied its own
	limit := uint64(Limit())
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return nil, fmt.Errorf("limit of open files: %w", err)
	}
	// From here on no mount or unmount of ours reaches the host.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	self, err := openSelf()
	if err != nil {
		return nil, err
	}
	if err := unix.Mount("none", newRoot, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700,size=1m"); err != nil {
		return nil, fmt.Errorf("mount tmpfs: %w", err)
	}
	for i, v := range volumes {
		if err := bind(v, newRoot+mountPath(i)); err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Host, err)
		}
		unix.Close(v.Path)
	}
	if err := pivot(); err != nil {
		return nil, err
	}
	return &jail{self: self}, dropCapabilities()
}

// openSelf opens /proc/self/fd so that nothing above it can be reached.
func openSelf() (int, error) {
	const dir = "/proc/self/fd"
	err := unix.Mount(dir, dir, "", unix.MS_BIND, "")
	if err != nil {
		return -1, fmt.Errorf("bind %s: %w", dir, err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return -1, fmt.Errorf("unmount %s: %w", dir, err)
	}
	return fd, nil
}

// bind mounts the volume at path. What is mounted below it on the host comes
// along: it could not be left out, since what it covers is not ours to see.
func bind(v Volume, path string) error {
	var want, got unix.Stat_t
	if err := unix.Fstat(v.Path, &want); err != nil {
		return err
	}
	// The descriptor cannot be mounted: it is of another mount namespace. So
	// its path is opened once more, and must lead to the same file.
	fd, err := unix.Openat2(unix.AT_FDCWD, v.Host, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC | unix.O_NOFOLLOW, Resolve: unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, &got); err != nil {
		return err
	}
	if got.Dev != want.Dev || got.Ino != want.Ino {
		return errors.New("replaced while the box started; start it again")
	}
	return attach(fd, path, got.Mode&unix.S_IFMT == unix.S_IFDIR, v.ReadOnly)
}

// attach mounts the open file or directory at path, which it makes. The mount
// is seen by nobody before its flags are set.
func attach(fd int, path string, dir, readOnly bool) error {
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open tree: %w", err)
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if readOnly {
		attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
	}
	err = unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("mount attributes: %w: volumes need Linux 5.12 or newer", err)
	}
	if err != nil {
		return fmt.Errorf("mount attributes: %w", err)
	}
	if dir {
		err = unix.Mkdir(path, 0o700)
	} else {
		err = unix.Mknod(path, unix.S_IFREG|0o600, 0)
	}
	if err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move mount: %w", err)
	}
	return nil
}

// pivot makes the tree of volumes the root, unchangeable, and drops the rest.
func pivot() error {
	if err := unix.Chdir(newRoot); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	// With both the same, the old root comes to lie over the new one.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir: %w", err)
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", "/", "", flags, ""); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// dropCapabilities keeps what lets the caller, where it is root, use files of
// others as root is used to. Anybody else has no more by it than an owner has.
func dropCapabilities() error {
	const keep = 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: keep, Permitted: keep}}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET,
		uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}

// filter forbids the system calls that serving files does not take. It also
// sets no_new_privs.
func filter() error {
	err := gvisorfilter.Install(gvisorfilter.Options{LisafsNeeded: true, ExtraRules: []seccomp.SyscallRules{
		seccomp.MakeSyscallRules(map[uintptr]seccomp.SyscallRule{
			// A hard link is made of an open file, by its name in self.
			unix.SYS_LINKAT: seccomp.PerArg{
				seccomp.NonNegativeFD{},
				seccomp.AnyValue{},
				seccomp.NonNegativeFD{},
				seccomp.AnyValue{},
				seccomp.EqualTo(linux.AT_SYMLINK_FOLLOW),
			},
		}),
	}})
	if err != nil {
		return fmt.Errorf("system call filter: %w", err)
	}
	return nil
}
