package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// epoch is the time of files that no package brought. Tools that write zip
// files refuse anything before 1980.
var epoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// tree is a root file system in the making: headers in memory, contents in one
// spool file, so that owners and modes need no privilege. Names have no
// leading slash. It is not safe for concurrent use.
type tree struct {
	spool   *os.File
	end     int64
	entries map[string]*entry
	err     error // the first failure of file, symlink or dir; writeTo returns it
}

type entry struct {
	hdr tar.Header
	at  int64 // where the spool has its content
}

// newTree keeps its spool in dir, unlinked at once.
func newTree(dir string) (*tree, error) {
	f, err := os.CreateTemp(dir, "spool")
	if err != nil {
		return nil, err
	}
	return &tree{spool: f, entries: map[string]*entry{}}, os.Remove(f.Name())
}

func (t *tree) close() { t.spool.Close() }

// merged are the directories that are links into usr on a Debian system, while
// packages may still name files by them.
var merged = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"}

// skeleton makes what every system has, packages or not.
func skeleton(t *tree) {
	for _, d := range merged[:3] {
		t.merge(d)
	}
	for _, d := range []string{
		"dev", "etc", "home", "proc", "root", "run", "sys", "usr/local/bin", "usr/local/sbin", "var/log", "var/lib",
	} {
		t.dir(d, 0o755)
	}
	t.dir("root", 0o700)
	t.dir("tmp", 0o1777)
	t.dir("var/tmp", 0o1777)
}

// merge makes a merged directory and the link to it.
func (t *tree) merge(name string) {
	if t.entries[name] != nil {
		return
	}
	t.dir("usr/"+name, 0o755)
	t.err = errors.Join(t.err, t.put(tar.Header{
		Typeflag: tar.TypeSymlink, Name: name, Linkname: "usr/" + name, Mode: 0o777, ModTime: epoch,
	}, nil))
}

// clean is the name under which the tree keeps what a package calls name.
func clean(name string) string {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	first, _, _ := strings.Cut(name, "/")
	if slices.Contains(merged, first) {
		return "usr/" + name
	}
	return name
}

// add puts an entry of a package in the tree. The first package to bring a
// directory decides its mode; the last one to bring a file wins.
func (t *tree) add(hdr *tar.Header, content io.Reader) error {
	top, _, nested := strings.Cut(strings.TrimPrefix(path.Clean("/"+hdr.Name), "/"), "/")
	if slices.Contains(merged, top) {
		t.merge(top)
		if !nested {
			return nil
		}
	}
	name := clean(hdr.Name)
	if name == "" || hdr.Typeflag == tar.TypeDir && t.entries[name] != nil {
		return nil
	}
	h := tar.Header{
		Typeflag: hdr.Typeflag, Name: name, Linkname: hdr.Linkname, Mode: hdr.Mode & 0o7777,
		Uid: hdr.Uid, Gid: hdr.Gid, ModTime: hdr.ModTime.Truncate(time.Second),
	}
	switch hdr.Typeflag {
	case tar.TypeLink:
		h.Linkname = clean(hdr.Linkname)
	case tar.TypeReg, tar.TypeSymlink, tar.TypeDir:
	default:
		return fmt.Errorf("%s: entry of type %q", hdr.Name, hdr.Typeflag)
	}
	return t.put(h, content)
}

func (t *tree) put(h tar.Header, content io.Reader) error {
	e := &entry{hdr: h, at: t.end}
	if h.Typeflag == tar.TypeReg {
		n, err := io.Copy(io.NewOffsetWriter(t.spool, t.end), content)
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		e.hdr.Size, t.end = n, t.end+n
	}
	t.entries[h.Name] = e
	return nil
}

// dir makes or changes a directory, and makes its parents.
func (t *tree) dir(name string, mode int64) {
	if parent := path.Dir(name); parent != "." && t.entries[parent] == nil {
		t.dir(parent, 0o755)
	}
	t.err = errors.Join(t.err, t.put(tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode, ModTime: epoch}, nil))
}

func (t *tree) symlink(name, target string) {
	t.err = errors.Join(t.err, t.put(tar.Header{
		Typeflag: tar.TypeSymlink, Name: clean(name), Linkname: target, Mode: 0o777, ModTime: epoch,
	}, nil))
}

// file makes a file of root. It is executable in a directory called bin.
func (t *tree) file(name, content string) {
	mode := int64(0o644)
	if path.Base(path.Dir(name)) == "bin" {
		mode = 0o755
	}
	t.fileMode(name, content, mode, 0)
}

func (t *tree) fileMode(name, content string, mode int64, gid int) {
	name = clean(name)
	if parent := path.Dir(name); parent != "." && t.entries[parent] == nil {
		t.dir(parent, 0o755)
	}
	t.err = errors.Join(t.err, t.put(tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: mode, Gid: gid, ModTime: epoch,
	}, strings.NewReader(content)))
}

// has tells whether there is anything of that name.
func (t *tree) has(name string) bool { return t.entries[clean(name)] != nil }

// content returns the bytes of a regular file, or nil.
func (t *tree) content(name string) ([]byte, error) {
	e := t.entries[clean(name)]
	if e == nil || e.hdr.Typeflag != tar.TypeReg {
		return nil, nil
	}
	return io.ReadAll(io.NewSectionReader(t.spool, e.at, e.hdr.Size))
}

// names lists the tree in order: a directory before what is in it.
func (t *tree) names() []string { return slices.Sorted(maps.Keys(t.entries)) }

// writeTo writes the tree as a tar stream. Hard links come last: their targets
// must be there already.
func (t *tree) writeTo(w io.Writer) error {
	if t.err != nil {
		return t.err
	}
	tw := tar.NewWriter(w)
	for _, links := range []bool{false, true} {
		for _, name := range t.names() {
			e := t.entries[name]
			if (e.hdr.Typeflag == tar.TypeLink) != links {
				continue
			}
			if err := t.writeEntry(tw, e); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return tw.Close()
}

func (t *tree) writeEntry(tw *tar.Writer, e *entry) error {
	h := e.hdr
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := tw.WriteHeader(&h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	_, err := io.Copy(tw, io.NewSectionReader(t.spool, e.at, h.Size))
	return err
}
