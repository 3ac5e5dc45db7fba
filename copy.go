package boxlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/tree"
)

// CopyOptions say how to copy. The zero value copies as "docker cp" does.
type CopyOptions struct {
	NoOverwrite bool // fail with ErrExists rather than replace a file
	FollowLinks bool // copy what symbolic links of the source point at
	NoParent    bool // copy what is in a directory, not the directory itself
	TopAsPath   bool // of CopyInTar: the one directory at its top becomes boxDst if there is none
}

func option(o []CopyOptions) CopyOptions {
	if len(o) > 0 {
		return o[0]
	}
	return CopyOptions{}
}

// CopyIn copies a file or directory of the host into the box, starting it if
// needed. At most one CopyOptions may be given.
//
// A file becomes boxDst, or, if that is a directory or ends in a slash, a file
// in it. A directory is put into boxDst if that exists, and becomes boxDst
// otherwise; a source that ends in "/." stands for what is in the directory.
// Missing directories are made. Modes and times are kept; the files belong to
// the user of the box. Sockets, devices and pipes are left out, with a warning
// in the log.
func (b *Box) CopyIn(ctx context.Context, hostSrc, boxDst string, o ...CopyOptions) error {
	return b.fail("copy to", b.copyIn(ctx, hostSrc, boxDst, option(o)))
}

func (b *Box) copyIn(ctx context.Context, src, dst string, o CopyOptions) error {
	st, err := os.Lstat(src)
	if err == nil && st.Mode().Type() == fs.ModeSymlink && (o.FollowLinks || strings.HasSuffix(src, "/")) {
		st, err = os.Stat(src)
	}
	if err != nil {
		return &cause{ErrNotFound, err}
	}
	name, top, err := packName(src, st.IsDir(), o)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	packed := make(chan error, 1)
	go func() { // ends when the reader is closed; awaited below
		err := tree.Pack(w, src, tree.PackOptions{
			Name: name, FollowLinks: o.FollowLinks,
			Skipped: func(path string) { b.log.Warn("not copied: not a file", slog.String("path", path)) },
		})
		w.CloseWithError(err)
		packed <- err
	}()
	err = b.copyInTar(ctx, r, guest.CopyIn{Path: dst, TopAsPath: top, NoOverwrite: o.NoOverwrite})
	r.Close()
	if e := <-packed; e != nil && !errors.Is(e, io.ErrClosedPipe) {
		return e // the cause; the copy only saw its stream end
	}
	return err
}

// packName decides what the top entry of a copy is called in the stream, and
// whether it becomes the destination itself where that does not exist.
func packName(src string, dir bool, o CopyOptions) (name string, top bool, err error) {
	base, err := filepath.Abs(src)
	if err != nil {
		return "", false, err
	}
	base = filepath.Base(base)
	if dir && (o.NoParent || strings.HasSuffix(filepath.ToSlash(src), "/.") || base == "/") {
		return ".", false, nil
	}
	return base, dir, nil
}

// CopyInTar unpacks a tar stream in the box. A stream of one file becomes
// boxDst, or a file in it if that is a directory or ends in a slash; anything
// else is unpacked in the directory boxDst, which is made if missing.
func (b *Box) CopyInTar(ctx context.Context, r io.Reader, boxDst string, o ...CopyOptions) error {
	in := guest.CopyIn{Path: boxDst, NoOverwrite: option(o).NoOverwrite, TopAsPath: option(o).TopAsPath}
	return b.fail("copy to", b.copyInTar(ctx, r, in))
}

func (b *Box) copyInTar(ctx context.Context, r io.Reader, in guest.CopyIn) error {
	in.Path = boxPath(in.Path)
	return guestErr(b.on.files().CopyIn(ctx, in, r))
}

// boxPath makes a path in the box absolute, keeping a slash at its end, which
// says that a directory is meant.
func boxPath(p string) string {
	abs := path.Join("/", p)
	if strings.HasSuffix(p, "/") && abs != "/" {
		abs += "/"
	}
	return abs
}

// CopyOut copies a file or directory of the box to the host, by the rules of
// [Box.CopyIn]. Nothing is written outside hostDst, whatever the box sends.
// The files belong to the caller; setuid bits are dropped.
func (b *Box) CopyOut(ctx context.Context, boxSrc, hostDst string, o ...CopyOptions) error {
	return b.fail("copy from", b.copyOut(ctx, boxSrc, hostDst, option(o)))
}

func (b *Box) copyOut(ctx context.Context, src, dst string, o CopyOptions) error {
	dir, rename, o, err := b.place(ctx, src, dst, o)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r, err := b.CopyOutTar(ctx, src, o)
	if err != nil {
		return err
	}
	defer r.Close()
	err = tree.Unpack(r, root, tree.UnpackOptions{Rename: rename, NoOverwrite: o.NoOverwrite})
	switch {
	case errors.Is(err, fs.ErrExist):
		return &cause{ErrExists, err}
	case errors.Is(err, tree.ErrHostile):
		return &cause{ErrInvalid, fmt.Errorf("the box sent a bad copy: %w", err)}
	}
	if s, ok := r.(interface{ Skipped() []string }); ok && err == nil {
		for _, name := range s.Skipped() {
			b.log.Warn("not copied: not a file", slog.String("box", b.id), slog.String("path", name))
		}
	}
	return spaceErr(guestErr(err))
}

// place decides in which directory of the host a copy goes, under which name,
// and makes the directory.
func (b *Box) place(ctx context.Context, src, dst string, o CopyOptions) (dir, rename string, _ CopyOptions, err error) {
	if strings.HasSuffix(src, "/.") {
		o.NoParent = true
	}
	st, err := b.on.files().Lstat(ctx, boxPath(src))
	if err == nil && (o.FollowLinks || strings.HasSuffix(src, "/")) {
		st, err = b.on.files().Stat(ctx, boxPath(src))
	}
	if err != nil {
		return "", "", o, guestErr(err)
	}
	to, err := os.Stat(dst)
	switch {
	case err == nil && to.IsDir():
		return dst, "", o, nil
	case err == nil && st.IsDir():
		return "", "", o, fmt.Errorf("%w: %s in the box is a directory, and %s is a file", ErrInvalid, src, dst)
	case err == nil || !errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(dst, "/"):
		return filepath.Dir(dst), filepath.Base(dst), o, nil
	case st.IsDir() || strings.HasSuffix(dst, "/"):
		o.NoParent = st.IsDir()
		return dst, "", o, os.MkdirAll(dst, 0o755)
	}
	return filepath.Dir(dst), filepath.Base(dst), o, os.MkdirAll(filepath.Dir(dst), 0o755)
}

// CopyOutTar packs a file or directory of the box as a tar stream. Its reader
// must be closed; Read fails if something went wrong in the box. The stream
// comes from the box: unpack it as one unpacks what an enemy sent.
func (b *Box) CopyOutTar(ctx context.Context, boxSrc string, o ...CopyOptions) (io.ReadCloser, error) {
	opt := option(o)
	r, err := b.on.files().CopyOut(ctx, guest.CopyOut{
		Path:        boxPath(boxSrc),
		FollowLinks: opt.FollowLinks,
		Contents:    opt.NoParent || strings.HasSuffix(boxSrc, "/."),
	})
	if err != nil {
		return nil, b.fail("copy from", guestErr(err))
	}
	return r, nil
}

// ReadFile returns the content of a file in the box. For large files use FS or
// CopyOut.
func (b *Box) ReadFile(ctx context.Context, name string) ([]byte, error) {
	data, err := fs.ReadFile(b.FS(ctx), strings.TrimPrefix(path.Clean("/"+name), "/"))
	return data, b.fail("read", err)
}

// WriteFile writes a file in the box, making its directories, as
// [os.WriteFile] does otherwise.
func (b *Box) WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	return b.WriteFileFrom(ctx, name, bytes.NewReader(data), perm)
}

// WriteFileFrom is [Box.WriteFile] of what r has. When r fails, what was written
// stays.
func (b *Box) WriteFileFrom(ctx context.Context, name string, r io.Reader, perm fs.FileMode) error {
	return b.fail("write", guestErr(b.on.files().WriteFile(ctx, boxPath(name), perm, r)))
}
