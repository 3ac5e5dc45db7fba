package image

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// tarArchive finds files in a tar that lies on disk.
type tarArchive struct {
	f     *os.File
	files map[string]member
}

// member is where a file is, or, if target is set, what it links to.
type member struct {
	off, size int64
	target    string
}

// readTarArchive makes the table of an archive. Names in it are only keys.
func readTarArchive(f *os.File, maxEntries int) (*tarArchive, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &tarArchive{f: f, files: make(map[string]member)}
	tr := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if errors.Is(err, tar.ErrHeader) && n == 0 {
			return nil, errors.New("not an image archive: it is no tar, plain or compressed")
		}
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if n >= maxEntries {
			return nil, fmt.Errorf("%w: archive of more than %d files", ErrHostile, maxEntries)
		}
		name := trimPath(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			off, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			a.files[name] = member{off: off, size: h.Size}
		case tar.TypeSymlink: // layers of old archives that are the same
			a.files[name] = member{target: trimPath(path.Join(path.Dir(name), h.Linkname))}
		case tar.TypeLink:
			a.files[name] = member{target: trimPath(h.Linkname)}
		}
	}
}

// trimPath is the name of a member in one spelling.
func trimPath(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (a *tarArchive) open(name string) (io.ReadCloser, error) {
	key := trimPath(name)
	for range 10 { // links to links
		m, ok := a.files[key]
		switch {
		case !ok:
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		case m.target == "":
			return io.NopCloser(io.NewSectionReader(a.f, m.off, m.size)), nil
		}
		key = m.target
	}
	return nil, fmt.Errorf("%w: %q is a circle of links", ErrHostile, name)
}
