package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// UnpackOptions says how to unpack. The zero value overwrites.
type UnpackOptions struct {
	Rename      string // new name of the top entry; empty: its own
	NoOverwrite bool   // fail with fs.ErrExist rather than replace a file
	MaxEntries  int    // 0: 10 million
	MaxBytes    int64  // of all files together, holes counted; 0: 1 TiB
}

// Bounds that no honest copy reaches.
const (
	defaultMaxEntries = 10_000_000
	defaultMaxBytes   = 1 << 40
	maxDepth          = 256
)

// ErrHostile says that a stream tried what no honest box does. The error names
// the entry.
var ErrHostile = errors.New("refused")

// Unpack makes the files of a tar stream in root. Permission bits and times
// are kept, setuid and setgid bits and owners are not. A file is replaced as a
// whole. Runs of zeros become holes.
func Unpack(r io.Reader, root *os.Root, o UnpackOptions) error {
	if o.MaxEntries == 0 {
		o.MaxEntries = defaultMaxEntries
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	u := &unpacker{root: root, o: o, buf: make([]byte, bufferSize)}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			// What follows the end of the archive is read, so that the sender
			// is not cut off.
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, u.finish())
		}
		if err == nil {
			err = u.entry(h, tr)
		}
		if err != nil {
			return errors.Join(err, u.finish())
		}
	}
}

type unpacker struct {
	root  *os.Root
	o     UnpackOptions
	top   string // first element of the first entry
	n     int
	bytes int64
	dirs  []dirMeta
	buf   []byte
}

// dirMeta is set when all is unpacked: a read-only directory could not be
// filled, and filling changes the time.
type dirMeta struct {
	name string
	mode fs.FileMode
	time time.Time
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	if u.n++; u.n > u.o.MaxEntries {
		return fmt.Errorf("%w: %q: more than %d entries", ErrHostile, h.Name, u.o.MaxEntries)
	}
	name, err := u.name(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		return u.dir(name, h)
	}
	if name == "." {
		return fmt.Errorf("%w: %q is not a directory", ErrHostile, h.Name)
	}
	if err := u.makeParent(name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return u.file(name, h, r)
	case tar.TypeSymlink:
		return u.replace(name, func(as string) error { return u.root.Symlink(h.Linkname, as) })
	case tar.TypeLink:
		to, err := u.name(h.Linkname)
		if err != nil {
			return err
		}
		return u.replace(name, func(as string) error { return u.root.Link(to, as) })
	}
	return fmt.Errorf("%w: %q is a device, pipe or unknown type %q", ErrHostile, h.Name, h.Typeflag)
}

// name checks and cleans the name of an entry.
func (u *unpacker) name(s string) (string, error) {
	name := path.Clean(s)
	if s == "" || !filepath.IsLocal(name) || strings.ContainsRune(s, 0) || strings.Count(name, "/") > maxDepth {
		return "", fmt.Errorf("%w: entry %q leads out of the destination", ErrHostile, s)
	}
	if u.o.Rename == "" || name == "." {
		return name, nil
	}
	first, rest, _ := strings.Cut(name, "/")
	if u.top == "" {
		u.top = first
	}
	if first != u.top {
		return "", fmt.Errorf("%w: entry %q is beside %q", ErrHostile, s, u.top)
	}
	return path.Join(u.o.Rename, rest), nil
}

func (u *unpacker) makeParent(name string) error {
	if dir := path.Dir(name); dir != "." {
		return u.root.MkdirAll(dir, 0o755)
	}
	return nil
}

func (u *unpacker) dir(name string, h *tar.Header) error {
	if name != "." {
		if err := u.makeParent(name); err != nil {
			return err
		}
		// The umask must not keep us from filling it; its mode is set at the end.
		err := u.root.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			st, statErr := u.root.Lstat(name)
			if statErr == nil && !st.IsDir() {
				return fmt.Errorf("%s: a file is there already, where a directory is to be", name)
			}
			err = statErr
		}
		if err != nil {
			return err
		}
	}
	u.dirs = append(u.dirs, dirMeta{name, h.FileInfo().Mode().Perm(), h.ModTime})
	return nil
}

func (u *unpacker) file(name string, h *tar.Header, r io.Reader) error {
	if u.bytes += h.Size; h.Size < 0 || u.bytes > u.o.MaxBytes || u.bytes < 0 {
		return fmt.Errorf("%w: %q: more than %d bytes", ErrHostile, h.Name, u.o.MaxBytes)
	}
	return u.replace(name, func(as string) error {
		f, err := u.root.OpenFile(as, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		err = u.fill(f, r, h.Size)
		if err == nil {
			err = f.Chmod(h.FileInfo().Mode().Perm())
		}
		if e := f.Close(); err == nil {
			err = e
		}
		if err == nil {
			err = u.root.Chtimes(as, h.ModTime, h.ModTime)
		}
		return err
	})
}

// replace makes name by calling make, beside an existing file if there is one,
// which it then takes the place of: the old file or the new one, never half.
func (u *unpacker) replace(name string, make func(as string) error) error {
	_, err := u.root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = make(name)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			_ = u.root.Remove(name)
		}
		return err
	case err != nil:
		return err
	case u.o.NoOverwrite:
		return &fs.PathError{Op: "copy", Path: name, Err: fs.ErrExist}
	}
	as := path.Join(path.Dir(name), fmt.Sprintf(".boxlite-%d-%d", os.Getpid(), u.n))
	if err = make(as); err == nil {
		err = u.root.Rename(as, name)
	}
	if err != nil {
		_ = u.root.Remove(as)
	}
	return err
}

var zeros [64 << 10]byte

// fill writes size bytes, leaving holes for aligned runs of zeros.
func (u *unpacker) fill(f *os.File, r io.Reader, size int64) error {
	hole := false
	for done := int64(0); done < size; {
		buf := u.buf[:min(int64(len(u.buf)), size-done)]
		n, err := io.ReadFull(r, buf)
		if err != nil {
			return fmt.Errorf("%s: the stream ended in the middle: %w", f.Name(), err)
		}
		done += int64(n)
		for buf = buf[:n]; len(buf) > 0; {
			part := buf[:min(len(zeros), len(buf))]
			buf = buf[len(part):]
			if hole = bytes.Equal(part, zeros[:len(part)]); hole {
				_, err = f.Seek(int64(len(part)), io.SeekCurrent)
			} else {
				_, err = f.Write(part)
			}
			if err != nil {
				return err
			}
		}
	}
	if hole {
		return f.Truncate(size)
	}
	return nil
}

// finish sets modes and times of directories, the deepest first.
func (u *unpacker) finish() error {
	var errs []error
	for i := len(u.dirs) - 1; i >= 0; i-- {
		d := u.dirs[i]
		if d.name == "." {
			continue // the destination itself is the caller's
		}
		errs = append(errs, u.root.Chtimes(d.name, d.time, d.time), u.root.Chmod(d.name, d.mode))
	}
	return errors.Join(errs...)
}
