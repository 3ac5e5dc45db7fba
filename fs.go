package boxlite

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// FS returns the files of the box, rooted at "/", for as long as ctx lives. It
// implements [fs.StatFS], [fs.ReadDirFS] and [fs.ReadLinkFS]. Each operation
// asks the box; the files may change under the caller. Symbolic links are
// resolved in the box.
func (b *Box) FS(ctx context.Context) fs.FS { return boxFS{b, ctx} }

// boxFS holds a context because io/fs has no place for one.
type boxFS struct {
	b   *Box
	ctx context.Context //nolint:containedctx // see above
}

func (f boxFS) check(op, name string, err error) error {
	if err == nil && !fs.ValidPath(name) {
		err = fs.ErrInvalid
	}
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*guest.Error](err); ok {
		for _, sentinel := range []error{fs.ErrNotExist, fs.ErrExist, fs.ErrPermission} {
			if errors.Is(e, sentinel) {
				err = sentinel
			}
		}
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

func (f boxFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.check("stat", name, nil); err != nil {
		return nil, err
	}
	st, err := f.b.on.files().Stat(f.ctx, "/"+name)
	if err := f.check("stat", name, err); err != nil {
		return nil, err
	}
	return named{st, name}, nil
}

func (f boxFS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.check("lstat", name, nil); err != nil {
		return nil, err
	}
	st, err := f.b.on.files().Lstat(f.ctx, "/"+name)
	if err := f.check("lstat", name, err); err != nil {
		return nil, err
	}
	return named{st, name}, nil
}

func (f boxFS) ReadLink(name string) (string, error) {
	if err := f.check("readlink", name, nil); err != nil {
		return "", err
	}
	to, err := f.b.on.files().Readlink(f.ctx, "/"+name)
	return to, f.check("readlink", name, err)
}

func (f boxFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.check("readdir", name, nil); err != nil {
		return nil, err
	}
	infos, err := f.b.on.files().ReadDir(f.ctx, "/"+name)
	if err := f.check("readdir", name, err); err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, len(infos))
	for i, st := range infos {
		out[i] = fs.FileInfoToDirEntry(st)
	}
	return out, nil
}

func (f boxFS) Open(name string) (fs.File, error) {
	st, err := f.Stat(name)
	if err != nil {
		return nil, f.check("open", name, errors.Unwrap(err))
	}
	if st.IsDir() {
		return &boxDir{fs: f, name: name, st: st}, nil
	}
	r, err := f.b.on.files().OpenFile(f.ctx, "/"+name)
	if err := f.check("open", name, err); err != nil {
		return nil, err
	}
	return &boxFile{r, st}, nil
}

// named gives the root the name that io/fs wants for it.
type named struct {
	fs.FileInfo
	path string
}

func (n named) Name() string {
	if n.path == "." {
		return "."
	}
	return n.FileInfo.Name()
}

type boxFile struct {
	io.ReadCloser
	st fs.FileInfo
}

func (f *boxFile) Stat() (fs.FileInfo, error) { return f.st, nil }

// boxDir is an open directory: its entries are read at the first ReadDir.
type boxDir struct {
	fs     boxFS
	name   string
	st     fs.FileInfo
	read   bool
	closed bool
	list   []fs.DirEntry
}

func (d *boxDir) Stat() (fs.FileInfo, error) { return d.st, nil }

func (d *boxDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: errors.New("is a directory")}
}

func (d *boxDir) Close() error {
	if d.closed {
		return &fs.PathError{Op: "close", Path: d.name, Err: fs.ErrClosed}
	}
	d.closed = true
	return nil
}

func (d *boxDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.fs.ReadDir(d.name)
		if err != nil {
			return nil, err
		}
		d.list, d.read = list, true
	}
	if n <= 0 {
		list := d.list
		d.list = nil
		return list, nil
	}
	if len(d.list) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.list))
	list := d.list[:n]
	d.list = d.list[n:]
	return list, nil
}
