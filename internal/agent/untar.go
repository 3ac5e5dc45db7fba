package agent

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// maxDirs bounds the directories whose mode and time are set at the end, after
// what goes in them was made; those over it are set at once.
const maxDirs = 64 << 10

// tree writes tar entries below a directory that none of them can leave.
type tree struct {
	u    *unpacker
	root *beneath
	dirs []dirEnd
}

// dirEnd is what a directory gets at the end.
type dirEnd struct {
	name string
	mode fs.FileMode
	time time.Time
}

func (u *unpacker) newTree(path string) (*tree, error) {
	root, err := openBeneath(path)
	if err != nil {
		return nil, err
	}
	return &tree{u: u, root: root}, nil
}

func (t *tree) close() { t.root.close() }

// own applies the entry of the destination itself, if it was made here: one
// that was there keeps its mode and time.
func (t *tree) own(h *tar.Header, made bool) error {
	if h.Typeflag != tar.TypeDir {
		return fail(guest.KindInvalid, "is the destination, and not a directory")
	}
	if made {
		t.dirs = append(t.dirs, dirEnd{".", headerMode(h), h.ModTime})
	}
	return nil
}

// add writes one entry.
func (t *tree) add(name string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeDir, tar.TypeSymlink, tar.TypeLink:
	default:
		return fail(guest.KindInvalid, "type %q is not a file, directory or link", string(h.Typeflag))
	}
	if _, _, err := t.root.in(name); errors.Is(err, fs.ErrNotExist) {
		if err := t.mkdirs(filepath.Dir(name)); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return t.dir(name, h)
	case tar.TypeSymlink:
		return t.symlink(name, h)
	case tar.TypeLink:
		return t.replace(name, func() error { return t.root.link(h.Linkname, name) })
	}
	return t.file(name, h, r)
}

// mkdirs makes a directory that has no entry, and its parents.
func (t *tree) mkdirs(name string) error {
	if name == "." {
		return nil
	}
	fd, err := t.root.openDir(name)
	if err == nil {
		unix.Close(fd)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.mkdirs(filepath.Dir(name)); err != nil {
		return err
	}
	if err := t.root.mkdir(name, 0o755); err != nil {
		return err
	}
	return t.chown(name)
}

// chown gives what was just made to the user; it is root's already.
func (t *tree) chown(name string) error {
	if !t.owned() {
		return nil
	}
	return t.root.chown(name, t.u.who)
}

// owned reports whether what is made must be given away.
func (t *tree) owned() bool {
	who := t.u.who
	return t.u.agent.switchUser && (who.uid != 0 || who.gid != 0)
}

// replace makes something, if need be in the place of another.
func (t *tree) replace(name string, makeIt func() error) error {
	err := makeIt()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if t.u.opts.NoOverwrite {
		return fail(guest.KindExists, "exists")
	}
	if t.root.isDir(name) {
		return fail(guest.KindIsDir, "is a directory in the box")
	}
	if err := t.root.remove(name); err != nil {
		return err
	}
	return makeIt()
}

func (t *tree) symlink(name string, h *tar.Header) error {
	err := t.replace(name, func() error { return t.root.symlink(h.Linkname, name) })
	if err == nil {
		err = t.chown(name)
	}
	if err == nil {
		err = t.root.chtimes(name, h.ModTime)
	}
	return err
}

// file writes a regular file. One that is there already stays as it is until
// the new one is whole.
func (t *tree) file(name string, h *tar.Header, r io.Reader) error {
	mode := headerMode(h)
	f, err := t.root.create(name, mode)
	if !errors.Is(err, fs.ErrExist) {
		if err != nil {
			return err
		}
		return t.fill(f, name, h, r)
	}
	switch {
	case t.u.opts.NoOverwrite:
		return fail(guest.KindExists, "exists")
	case t.root.isDir(name):
		return fail(guest.KindIsDir, "is a directory in the box")
	}
	tmp := filepath.Join(filepath.Dir(name), ".boxlite-"+randomID())
	if f, err = t.root.create(tmp, mode); err != nil {
		return err
	}
	if err := t.fill(f, tmp, h, r); err != nil {
		return err
	}
	if err := t.root.rename(tmp, name); err != nil {
		return errors.Join(err, t.root.remove(tmp))
	}
	return nil
}

// fill gives a file that was just made its content, or removes it: half a file
// helps nobody.
func (t *tree) fill(f *os.File, name string, h *tar.Header, r io.Reader) error {
	defer f.Close()
	var err error
	if h.Size > 0 {
		_, err = t.u.copier.copy(f, r)
	}
	if err == nil {
		err = t.finishFile(f, headerMode(h))
	}
	if err == nil {
		err = t.root.chtimes(name, h.ModTime)
	}
	if err != nil {
		return errors.Join(err, t.root.remove(name))
	}
	return nil
}

func (t *tree) finishFile(f *os.File, mode fs.FileMode) error {
	if t.owned() {
		if err := f.Chown(int(t.u.who.uid), int(t.u.who.gid)); err != nil {
			return err
		}
	}
	if masked(mode) {
		if err := f.Chmod(mode); err != nil {
			return err
		}
	}
	return f.Close()
}

// masked reports whether the usual umask, or open itself, takes bits of mode.
func masked(mode fs.FileMode) bool { return mode != mode.Perm() || mode&0o022 != 0 }

func (t *tree) dir(name string, h *tar.Header) error {
	mode := headerMode(h)
	err := t.root.mkdir(name, mode|0o700)
	if errors.Is(err, fs.ErrExist) {
		fd, err := t.root.openDir(name)
		if err != nil {
			return err
		}
		return unix.Close(fd) // merged: its mode and time stay
	}
	if err != nil {
		return err
	}
	if err := t.chown(name); err != nil {
		return err
	}
	end := dirEnd{name, mode, h.ModTime}
	if len(t.dirs) >= maxDirs {
		return t.end(end)
	}
	t.dirs = append(t.dirs, end)
	return nil
}

// finish sets the modes and times of directories, inner ones first.
func (t *tree) finish() error {
	for i := len(t.dirs) - 1; i >= 0; i-- {
		if err := t.end(t.dirs[i]); err != nil {
			return inEntry(t.dirs[i].name, err)
		}
	}
	return nil
}

func (t *tree) end(d dirEnd) error { return t.root.setDir(d.name, d.mode, d.time) }

// headerMode is the permissions of an entry, with setuid, setgid and sticky.
func headerMode(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}
