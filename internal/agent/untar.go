package agent

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// maxDirs bounds the directories whose mode and time are set at the end, after
// what goes in them was made; those over it are set at once.
const maxDirs = 64 << 10

// tree writes tar entries below a directory that none of them can leave.
type tree struct {
	u    *unpacker
	root *os.Root
	dirs []dirEnd

	parent     *os.Root // of the last entry, since most entries have siblings
	parentName string
}

// dirEnd is what a directory gets at the end.
type dirEnd struct {
	name string
	mode fs.FileMode
	time time.Time
}

func (t *tree) close() {
	t.closeParent()
	t.root.Close()
}

func (t *tree) closeParent() {
	if t.parent != nil && t.parent != t.root {
		t.parent.Close()
	}
	t.parent = nil
}

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
	parent, err := t.open(filepath.Dir(name))
	if err != nil {
		return err
	}
	base := filepath.Base(name)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return t.file(parent, base, h, r)
	case tar.TypeDir:
		return t.dir(parent, name, base, h)
	case tar.TypeSymlink:
		err = t.replace(parent, base, func() error { return parent.Symlink(h.Linkname, base) })
	case tar.TypeLink:
		err = t.replace(parent, base, func() error { return t.root.Link(h.Linkname, name) })
		return err
	default:
		return fail(guest.KindInvalid, "type %q is not a file, directory or link", string(h.Typeflag))
	}
	if err == nil {
		err = t.chown(parent, base)
	}
	return err
}

// open opens the directory of an entry, making what is missing.
func (t *tree) open(dir string) (*os.Root, error) {
	if t.parent != nil && t.parentName == dir {
		return t.parent, nil
	}
	t.closeParent()
	parent, err := t.openDir(dir)
	if err != nil {
		return nil, err
	}
	t.parent, t.parentName = parent, dir
	return parent, nil
}

func (t *tree) openDir(dir string) (*os.Root, error) {
	if dir == "." {
		return t.root, nil
	}
	parent, err := t.root.OpenRoot(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return parent, err
	}
	if err := t.mkdirs(dir); err != nil {
		return nil, err
	}
	return t.root.OpenRoot(dir)
}

func (t *tree) mkdirs(dir string) error {
	if dir == "." {
		return nil
	}
	if fi, err := t.root.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := t.mkdirs(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := t.root.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return t.chown(t.root, dir)
}

func (t *tree) chown(root *os.Root, name string) error {
	who := t.u.who
	if !t.u.agent.switchUser || (who.uid == 0 && who.gid == 0) {
		return nil
	}
	return root.Lchown(name, int(who.uid), int(who.gid))
}

// replace makes something, if need be in the place of another.
func (t *tree) replace(parent *os.Root, base string, makeIt func() error) error {
	err := makeIt()
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if t.u.opts.NoOverwrite {
		return fail(guest.KindExists, "exists")
	}
	if fi, err := parent.Lstat(base); err == nil && fi.IsDir() {
		return fail(guest.KindIsDir, "is a directory in the box")
	}
	if err := parent.Remove(base); err != nil {
		return err
	}
	return makeIt()
}

func (t *tree) file(parent *os.Root, base string, h *tar.Header, r io.Reader) error {
	var f *os.File
	mode := headerMode(h)
	err := t.replace(parent, base, func() (err error) {
		f, err = parent.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode.Perm())
		return err
	})
	if err != nil {
		return err
	}
	defer f.Close()
	if h.Size > 0 {
		if _, err := t.u.copier.copy(f, r); err != nil {
			parent.Remove(base) // half a file helps nobody
			return err
		}
	}
	if err := t.finishFile(f, mode); err != nil {
		return err
	}
	return chtimes(parent, base, h.ModTime)
}

func (t *tree) finishFile(f *os.File, mode fs.FileMode) error {
	who := t.u.who
	if t.u.agent.switchUser && (who.uid != 0 || who.gid != 0) {
		if err := f.Chown(int(who.uid), int(who.gid)); err != nil {
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

func (t *tree) dir(parent *os.Root, name, base string, h *tar.Header) error {
	mode := headerMode(h)
	err := parent.Mkdir(base, mode.Perm()|0o700)
	if errors.Is(err, fs.ErrExist) {
		fi, serr := t.root.Stat(name)
		if serr != nil {
			return serr
		}
		if !fi.IsDir() {
			return fail(guest.KindNotDir, "is not a directory in the box")
		}
		return nil // merged: its mode and time stay
	}
	if err != nil {
		return err
	}
	if err := t.chown(parent, base); err != nil {
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

func (t *tree) end(d dirEnd) error {
	if masked(d.mode) || d.mode&0o700 != 0o700 {
		f, err := t.root.OpenFile(d.name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		err = f.Chmod(d.mode)
		f.Close()
		if err != nil {
			return err
		}
	}
	return chtimes(t.root, d.name, d.time)
}

func chtimes(root *os.Root, name string, mtime time.Time) error {
	if mtime.IsZero() {
		return nil
	}
	return root.Chtimes(name, mtime, mtime)
}

// headerMode is the permissions of an entry, with setuid, setgid and sticky.
func headerMode(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}
