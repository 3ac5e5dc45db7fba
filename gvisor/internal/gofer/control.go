package gofer

import (
	"errors"
	"math"
	"strconv"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/abi/linux"
	"gvisor.dev/gvisor/pkg/lisafs"
)

// lookup is how everything is opened at first: by no right but that to know of
// it, so that no FIFO's writer wakes up and no device notices.
const lookup = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

// Mount implements lisafs.ConnectionImpl.
func (j *jail) Mount(c *lisafs.Connection, node *lisafs.Node) (*lisafs.ControlFD, lisafs.Statx, int, error) {
	fd, err := unix.Open(node.FilePath(), lookup, 0)
	if err != nil {
		return nil, lisafs.Statx{}, -1, err
	}
	st, dev, err := discover(fd, device{})
	if err != nil {
		unix.Close(fd)
		return nil, lisafs.Statx{}, -1, err
	}
	root := &control{jail: j, fd: fd, dev: dev}
	node.IncRef() // for root
	root.Init(c, node, linux.FileMode(st.Mode), root)
	return root.FD(), st, -1, nil
}

// MaxMessageSize implements lisafs.ConnectionImpl.
func (*jail) MaxMessageSize() uint32 { return lisafs.MaxMessageSize() }

// SupportedMessages implements lisafs.ConnectionImpl. There is nothing for
// sockets.
func (*jail) SupportedMessages() []lisafs.MID {
	return []lisafs.MID{
		lisafs.Mount, lisafs.Channel, lisafs.FStat, lisafs.SetStat, lisafs.Walk, lisafs.WalkStat,
		lisafs.OpenAt, lisafs.OpenCreateAt, lisafs.Close, lisafs.FSync, lisafs.PWrite, lisafs.PRead,
		lisafs.MkdirAt, lisafs.MknodAt, lisafs.SymlinkAt, lisafs.LinkAt, lisafs.FStatFS, lisafs.FAllocate,
		lisafs.ReadLinkAt, lisafs.UnlinkAt, lisafs.RenameAt, lisafs.RenameAt2, lisafs.Getdents64,
		lisafs.FGetXattr, lisafs.FSetXattr, lisafs.FListXattr, lisafs.FRemoveXattr,
	}
}

// control is a file that the other side knows of.
type control struct {
	lisafs.ControlFD

	jail *jail
	fd   int // opened with lookup
	dev  device
}

var _ lisafs.ControlFDImpl = (*control)(nil)

// child makes the control of a file of this directory, which the caller has
// opened; it takes fd, also when it fails.
func (c *control) child(name string, fd int) (*control, lisafs.Statx, error) {
	st, dev, err := discover(fd, c.dev)
	if err != nil {
		unix.Close(fd)
		return nil, lisafs.Statx{}, err
	}
	var node *lisafs.Node
	parent := c.Node()
	parent.WithChildrenMu(func() {
		if node = parent.LookupChildLocked(name); node != nil {
			node.IncRef()
			return
		}
		node = &lisafs.Node{}
		node.InitLocked(name, parent)
	})
	n := &control{jail: c.jail, fd: fd, dev: dev}
	n.Init(c.Conn(), node, linux.FileMode(st.Mode), n)
	return n, st, nil
}

// made makes the control of a file that was just made in this directory, and
// removes it again if that fails.
func (c *control) made(name string, remove int) (*lisafs.ControlFD, lisafs.Statx, error) {
	child, st, err := c.Walk(name)
	if err != nil {
		_ = unix.Unlinkat(c.fd, name, remove)
	}
	return child, st, err
}

// change tells whether names in this directory may change.
func (c *control) change() error {
	if c.dev.kernel {
		return unix.EPERM
	}
	return nil
}

// self is the name of the file in the directory of open descriptors.
func (c *control) self() string { return strconv.Itoa(c.fd) }

// reopen opens the file with other rights.
func (c *control) reopen(flags int) (int, error) {
	if !c.IsRegular() && !c.IsDir() || c.dev.kernel {
		return -1, unix.EPERM
	}
	// It follows the kernel's link to just this file. Without waiting: leases
	// of the host's programs are not ours to wait for.
	return unix.Openat(c.jail.self, c.self(), flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
}

// FD implements lisafs.ControlFDImpl.
func (c *control) FD() *lisafs.ControlFD {
	if c == nil {
		return nil
	}
	return &c.ControlFD
}

// Close implements lisafs.ControlFDImpl.
func (c *control) Close() { unix.Close(c.fd) }

// Stat implements lisafs.ControlFDImpl.
func (c *control) Stat() (lisafs.Statx, error) { return stat(c.fd) }

// Walk implements lisafs.ControlFDImpl.
func (c *control) Walk(name string) (*lisafs.ControlFD, lisafs.Statx, error) {
	fd, err := unix.Openat(c.fd, name, lookup, 0)
	if err != nil {
		return nil, lisafs.Statx{}, err
	}
	child, st, err := c.child(name, fd)
	return child.FD(), st, err
}

// WalkStat implements lisafs.ControlFDImpl.
func (c *control) WalkStat(path lisafs.StringArray, record func(lisafs.Statx)) error {
	if len(path) > 0 && path[0] == "" { // this file itself
		st, err := c.Stat()
		if err != nil {
			return err
		}
		record(st)
		path = path[1:]
	}
	at, dev := c.fd, c.dev
	defer func() {
		if at != c.fd {
			unix.Close(at)
		}
	}()
	for _, name := range path {
		fd, err := unix.Openat(at, name, lookup, 0)
		if errors.Is(err, unix.ENOENT) {
			return nil // the walk ends where nothing is
		}
		if err != nil {
			return err
		}
		if at != c.fd {
			unix.Close(at)
		}
		at = fd
		var st lisafs.Statx
		if st, dev, err = discover(fd, dev); err != nil {
			return err
		}
		record(st)
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			return nil // the other side reads and follows it, from its own root
		}
	}
	return nil
}

// Open implements lisafs.ControlFDImpl. The other side gets the descriptor of
// a regular file too, to read and write it without asking.
func (c *control) Open(flags uint32) (*lisafs.OpenFD, int, error) {
	fd, err := c.reopen(int(flags))
	if err != nil {
		return nil, -1, err
	}
	donated := -1
	if c.IsRegular() {
		donated, _ = unix.Dup(fd) // slower without
	}
	return c.newFile(fd, flags).FD(), donated, nil
}

// OpenCreate implements lisafs.ControlFDImpl.
func (c *control) OpenCreate(mode linux.FileMode, _ lisafs.UID, _ lisafs.GID, name string, flags uint32) (*lisafs.ControlFD, lisafs.Statx, *lisafs.OpenFD, int, error) {
	var none lisafs.Statx
	if err := c.change(); err != nil {
		return nil, none, nil, -1, err
	}
	fd, err := unix.Openat(c.fd, name, int(flags)|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, fileMode(mode))
	if err != nil {
		return nil, none, nil, -1, err
	}
	known, err := unix.Openat(c.jail.self, strconv.Itoa(fd), unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(fd)
		_ = unix.Unlinkat(c.fd, name, 0)
		return nil, none, nil, -1, err
	}
	child, st, err := c.child(name, known)
	if err != nil {
		unix.Close(fd)
		_ = unix.Unlinkat(c.fd, name, 0)
		return nil, none, nil, -1, err
	}
	donated, _ := unix.Dup(fd) // slower without
	return child.FD(), st, child.newFile(fd, flags).FD(), donated, nil
}

// Mkdir implements lisafs.ControlFDImpl.
func (c *control) Mkdir(mode linux.FileMode, _ lisafs.UID, _ lisafs.GID, name string) (*lisafs.ControlFD, lisafs.Statx, error) {
	if err := c.change(); err != nil {
		return nil, lisafs.Statx{}, err
	}
	if err := unix.Mkdirat(c.fd, name, fileMode(mode)); err != nil {
		return nil, lisafs.Statx{}, err
	}
	return c.made(name, unix.AT_REMOVEDIR)
}

// Mknod implements lisafs.ControlFDImpl: it makes empty files only.
func (c *control) Mknod(mode linux.FileMode, _ lisafs.UID, _ lisafs.GID, name string, _, _ uint32) (*lisafs.ControlFD, lisafs.Statx, error) {
	if mode.FileType() != linux.ModeRegular || c.change() != nil {
		return nil, lisafs.Statx{}, unix.EPERM
	}
	if err := unix.Mknodat(c.fd, name, unix.S_IFREG|fileMode(mode), 0); err != nil {
		return nil, lisafs.Statx{}, err
	}
	return c.made(name, 0)
}

// Symlink implements lisafs.ControlFDImpl. Where it points to is of no
// concern: nobody follows it on this side.
func (c *control) Symlink(name, target string, _ lisafs.UID, _ lisafs.GID) (*lisafs.ControlFD, lisafs.Statx, error) {
	if err := c.change(); err != nil {
		return nil, lisafs.Statx{}, err
	}
	if err := unix.Symlinkat(target, c.fd, name); err != nil {
		return nil, lisafs.Statx{}, err
	}
	return c.made(name, 0)
}

// Link implements lisafs.ControlFDImpl.
func (c *control) Link(dir lisafs.ControlFDImpl, name string) (*lisafs.ControlFD, lisafs.Statx, error) {
	d := dir.(*control)
	if !c.IsRegular() && !c.IsSymlink() || d.change() != nil {
		return nil, lisafs.Statx{}, unix.EPERM
	}
	if err := unix.Linkat(c.jail.self, c.self(), d.fd, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return nil, lisafs.Statx{}, err
	}
	return d.made(name, 0)
}

// Unlink implements lisafs.ControlFDImpl.
func (c *control) Unlink(name string, flags uint32) error {
	if err := c.change(); err != nil {
		return err
	}
	return unix.Unlinkat(c.fd, name, int(flags))
}

// RenameAt implements lisafs.ControlFDImpl.
func (c *control) RenameAt(old string, dir lisafs.ControlFDImpl, name string) error {
	return c.RenameAt2(old, dir, name, 0)
}

// RenameAt2 implements lisafs.ControlFDImpl. A whiteout would be a device.
func (c *control) RenameAt2(old string, dir lisafs.ControlFDImpl, name string, flags uint32) error {
	d := dir.(*control)
	if flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return unix.EINVAL
	}
	if err := errors.Join(c.change(), d.change()); err != nil {
		return unix.EPERM
	}
	return unix.Renameat2(c.fd, old, d.fd, name, uint(flags))
}

// Renamed implements lisafs.ControlFDImpl: nothing here depends on names.
func (*control) Renamed() {}

// Readlink implements lisafs.ControlFDImpl.
func (c *control) Readlink(buf func(uint32) []byte) (uint16, error) {
	// A page and one byte: a longer target cannot be made.
	b := buf(unix.PathMax + 1)
	n, err := unix.Readlinkat(c.fd, "", b)
	if err == nil && n > math.MaxUint16 {
		err = unix.ENAMETOOLONG
	}
	return uint16(max(n, 0)), err
}

// StatFS implements lisafs.ControlFDImpl.
func (c *control) StatFS() (lisafs.StatFS, error) {
	var s unix.Statfs_t
	if err := unix.Fstatfs(c.fd, &s); err != nil {
		return lisafs.StatFS{}, err
	}
	return lisafs.StatFS{
		Type: uint64(s.Type), BlockSize: s.Bsize, NameLength: uint64(s.Namelen),
		Blocks: s.Blocks, BlocksFree: s.Bfree, BlocksAvailable: s.Bavail, Files: s.Files, FilesFree: s.Ffree,
	}, nil
}

// Connect implements lisafs.ControlFDImpl: no socket of the host is for a box.
func (*control) Connect(uint32) (int, error) { return -1, unix.EPERM }

// ConnectWithCreds implements lisafs.ControlFDImpl, as Connect.
func (*control) ConnectWithCreds(uint32, lisafs.UID, lisafs.GID) (int, error) { return -1, unix.EPERM }

// BindAt implements lisafs.ControlFDImpl, as Connect.
func (*control) BindAt(string, uint32, linux.FileMode, lisafs.UID, lisafs.GID) (*lisafs.ControlFD, lisafs.Statx, *lisafs.BoundSocketFD, int, error) {
	return nil, lisafs.Statx{}, nil, -1, unix.EPERM
}
