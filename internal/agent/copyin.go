package agent

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// maxSparse bounds the length of one file in a tar stream: a stream may name
// holes of any length for free, and to pass over them takes time.
const maxSparse = 1 << 40

func (s *stream) copyIn(o *guest.CopyIn) error {
	who, err := s.agent.account(o.User)
	if err != nil {
		return err
	}
	r := wire.NewDataReader(s.wire)
	u := &unpacker{
		agent: s.agent, who: who, opts: o,
		path: s.agent.path(o.Path), slash: strings.HasSuffix(o.Path, "/"),
	}
	defer u.close()
	if err := u.run(tar.NewReader(bufio.NewReaderSize(r, wire.Chunk))); err != nil {
		return err
	}
	if err := s.finished(r); err != nil {
		return err
	}
	return s.reply(guest.Trailer{Entries: u.entries})
}

// unpacker puts the entries of a tar stream in place. Where they go it learns
// from the first entries: see [guest.CopyIn].
type unpacker struct {
	agent *Agent
	who   *account
	opts  *guest.CopyIn
	path  string
	slash bool // the path says that it is a directory

	single  *single // a first entry that may be the only one
	top     string  // top directory that becomes path; empty: none
	made    bool    // path is a directory made here
	tree    *tree   // set once path is known to be a directory
	copier  copier
	entries int64
}

func (u *unpacker) close() {
	if u.single != nil {
		os.Remove(u.single.tmp)
	}
	if u.tree != nil {
		u.tree.close()
	}
}

func (u *unpacker) run(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return u.finish()
		}
		if err != nil {
			return fail(guest.KindInvalid, "tar stream: %v", err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := u.entry(h, tr); err != nil {
			return inEntry(h.Name, err)
		}
		u.entries++
	}
}

// inEntry names the entry that failed, and keeps the kind.
func inEntry(name string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fail(guest.KindInvalid, "the stream ends in the middle of it")
	}
	e := remote(err)
	return fail(e.Kind, "entry %q: %s", name, e.Message)
}

func (u *unpacker) entry(h *tar.Header, r io.Reader) error {
	name, err := entryName(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		if h.Linkname, err = entryName(h.Linkname); err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	}
	if h.Size > maxSparse {
		return fail(guest.KindInvalid, "%d bytes, at most %d", h.Size, int64(maxSparse))
	}
	if u.tree == nil {
		done, err := u.place(name, h, r)
		if done || err != nil {
			return err
		}
	}
	if name, err = u.below(name); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		if h.Linkname, err = u.below(h.Linkname); err != nil {
			return fmt.Errorf("hard link: %w", err)
		}
	}
	if name == "." {
		return u.tree.own(h, u.made)
	}
	return u.tree.add(name, h, r)
}

// entryName is a name in a tar stream as a path below the destination.
func entryName(name string) (string, error) {
	switch {
	case name == "" || strings.IndexByte(name, 0) >= 0 || len(name) > guest.MaxPath:
		return "", fail(guest.KindInvalid, "malformed name")
	case name[0] == '/':
		return "", fail(guest.KindInvalid, "absolute name %q", name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fail(guest.KindInvalid, "name %q leads out of the destination", name)
		}
	}
	return filepath.Clean(name), nil
}

// below takes off the top directory that becomes the path.
func (u *unpacker) below(name string) (string, error) {
	if u.top == "" {
		return name, nil
	}
	if name == u.top {
		return ".", nil
	}
	rest, ok := strings.CutPrefix(name, u.top+"/")
	if !ok {
		return "", fail(guest.KindInvalid, "not below %q, the first entry", u.top)
	}
	return rest, nil
}

// place decides where entries go when the path is not known to be a directory.
// It is done when it has dealt with the entry itself.
func (u *unpacker) place(name string, h *tar.Header, r io.Reader) (done bool, err error) {
	fi, err := os.Stat(u.path)
	exists := err == nil
	switch {
	case u.slash, exists && fi.IsDir():
	case u.single != nil: // a second entry: the first belongs below the path
	case isFile(h) && !strings.Contains(name, "/"):
		u.single, err = u.stage(name, h, r)
		return true, err
	case u.opts.TopAsPath && !exists && name != ".":
		u.top, _, _ = strings.Cut(name, "/")
	}
	return false, u.open(exists)
}

// open makes the path a directory and everything goes below it from now on.
func (u *unpacker) open(exists bool) error {
	if err := u.agent.makeDirs(u.path, 0o755, u.who); err != nil {
		return err
	}
	t, err := u.newTree(u.path)
	if err != nil {
		return err
	}
	u.made, u.tree = !exists, t
	if s := u.single; s != nil {
		u.single = nil
		return s.into(u.path, u.opts.NoOverwrite)
	}
	return nil
}

func (u *unpacker) finish() error {
	if s := u.single; s != nil {
		u.single = nil
		return s.as(u.path, u.opts.NoOverwrite)
	}
	if u.tree != nil {
		return u.tree.finish()
	}
	if u.slash { // an empty stream
		return u.agent.makeDirs(u.path, 0o755, u.who)
	}
	return nil
}

func isFile(h *tar.Header) bool {
	return h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeGNUSparse || h.Typeflag == tar.TypeSymlink
}

// single is a first entry under a temporary name, until it is known whether it
// is the only one.
type single struct {
	tmp  string
	name string
}

// stage writes the first entry beside the path it may become.
func (u *unpacker) stage(name string, h *tar.Header, r io.Reader) (*single, error) {
	u.path = u.agent.target(u.path)
	dir := filepath.Dir(u.path)
	if err := u.agent.makeDirs(dir, 0o755, u.who); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(u.path); err == nil && u.opts.NoOverwrite {
		return nil, fail(guest.KindExists, "%s exists", u.opts.Path)
	}
	t, err := u.newTree(dir)
	if err != nil {
		return nil, err
	}
	defer t.close()
	tmp := ".boxlite-" + randomID()
	s := &single{tmp: filepath.Join(dir, tmp), name: name}
	if err := t.add(tmp, h, r); err != nil {
		os.Remove(s.tmp)
		return nil, err
	}
	return s, nil
}

// target follows the box's own symbolic links, so that a copy to a link
// replaces what it names.
func (a *Agent) target(path string) string {
	for range 40 { // as the kernel does
		to, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if filepath.IsAbs(to) {
			path = a.path(to)
		} else {
			path = filepath.Join(filepath.Dir(path), to)
		}
	}
	return path
}

// as makes the staged entry the path.
func (s *single) as(path string, noOverwrite bool) error {
	err := s.move(path, noOverwrite)
	if err != nil {
		os.Remove(s.tmp)
		return inEntry(s.name, err)
	}
	return nil
}

// into moves the staged entry below the path.
func (s *single) into(path string, noOverwrite bool) error {
	return s.as(filepath.Join(path, s.name), noOverwrite)
}

func (s *single) move(path string, noOverwrite bool) error {
	if noOverwrite {
		if err := os.Link(s.tmp, path); err != nil { // unlike a rename, never replaces
			return err
		}
		return os.Remove(s.tmp)
	}
	return os.Rename(s.tmp, path)
}
