package agent

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// Bounds of what one copy out keeps in memory.
const (
	maxSkipped = 32       // names told of what was left out
	maxLinks   = 64 << 10 // files with several names; those over it are copied again
)

func (s *stream) copyOut(o *guest.CopyOut) error {
	path := s.agent.path(o.Path)
	fi, err := os.Lstat(path)
	if err == nil && o.FollowLinks && fi.Mode().Type() == fs.ModeSymlink {
		fi, err = os.Stat(path)
	}
	if err != nil {
		return err
	}
	st, err := s.agent.fileStat(path, fi)
	if err != nil {
		return err
	}
	if err := s.reply(st); err != nil {
		return err
	}
	p := &packer{w: wire.NewDataWriter(s.wire), follow: o.FollowLinks, links: make(map[inode]string)}
	name := filepath.Base(path)
	if fi.IsDir() && (o.Contents || path == s.agent.path("/")) {
		err = p.entries(path, "", nil)
	} else {
		err = p.add(path, name, nil)
	}
	if err == nil {
		err = p.finish()
	}
	if err == nil {
		err = p.changed
	}
	if err != nil {
		return err
	}
	return s.end(p.trailer)
}

// packer writes a tree as a tar stream.
type packer struct {
	w       *wire.DataWriter
	follow  bool
	links   map[inode]string // first name of files with several
	changed error            // the first file that changed while it was read
	trailer guest.Trailer
}

type inode struct{ dev, ino uint64 }

// level is a directory being packed, and those it is in: with links followed
// a tree may hold itself.
type level struct {
	inode inode
	up    *level
}

func (l *level) holds(i inode) bool {
	for ; l != nil; l = l.up {
		if l.inode == i {
			return true
		}
	}
	return false
}

var padding [512]byte

// finish writes the end of the archive.
func (p *packer) finish() error {
	for range 2 {
		if _, err := p.w.Write(padding[:]); err != nil {
			return hostError(err)
		}
	}
	return hostError(p.w.Flush())
}

// add packs path as name, and what is below it.
func (p *packer) add(path, name string, up *level) error {
	fi, err := os.Lstat(path)
	if err == nil && p.follow && fi.Mode().Type() == fs.ModeSymlink {
		if to, serr := os.Stat(path); serr == nil {
			fi = to
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // removed meanwhile
	case err != nil:
		return err
	case fi.IsDir():
		return p.dir(path, name, fi, up)
	case fi.Mode().IsRegular():
		return p.file(path, name)
	case fi.Mode().Type() == fs.ModeSymlink:
		return p.symlink(path, name, fi)
	}
	p.skip(name)
	return nil
}

func (p *packer) skip(name string) {
	p.trailer.SkippedCount++
	if len(p.trailer.Skipped) < maxSkipped {
		p.trailer.Skipped = append(p.trailer.Skipped, strings.ToValidUTF8(name, "?"))
	}
}

func (p *packer) dir(path, name string, fi fs.FileInfo, up *level) error {
	if up.holds(inodeOf(fi)) {
		p.skip(name)
		return nil
	}
	h := header(name+"/", fi)
	h.Typeflag = tar.TypeDir
	if err := p.header(h); err != nil {
		return err
	}
	return p.entries(path, name+"/", &level{inodeOf(fi), up})
}

// entries packs what is in a directory, a bounded batch at a time.
func (p *packer) entries(path, prefix string, l *level) error {
	d, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		batch, err := d.ReadDir(dirBatch)
		for _, e := range batch {
			if err := p.add(filepath.Join(path, e.Name()), prefix+e.Name(), l); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (p *packer) symlink(path, name string, fi fs.FileInfo) error {
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	h := header(name, fi)
	h.Typeflag, h.Linkname = tar.TypeSymlink, target
	return p.header(h)
}

// file packs a regular file with the length it has when it is opened. If it
// changes, the stream stays whole and the end of it says so.
func (p *packer) file(path, name string) error {
	f, fi, err := p.open(path)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	h := header(name, fi)
	if first := p.linked(name, fi); first != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return p.header(h)
	}
	h.Typeflag, h.Size = tar.TypeReg, fi.Size()
	if err := p.header(h); err != nil {
		return err
	}
	n, err := p.w.ReadFrom(io.LimitReader(f, h.Size))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if n < h.Size || p.grew(f) {
		p.note(fail(guest.KindFailed, "%s changed while it was copied", name))
	}
	return p.pad(h.Size-n, h.Size)
}

// open opens a regular file, never anything that took its place.
func (p *packer) open(path string) (*os.File, fs.FileInfo, error) {
	flag := unix.O_RDONLY
	if !p.follow {
		flag |= unix.O_NOFOLLOW
	}
	f, fi, err := openRegular(path, flag, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	return f, fi, err
}

func (p *packer) grew(f *os.File) bool {
	n, _ := f.Read(make([]byte, 1))
	return n > 0
}

func (p *packer) note(err error) {
	if p.changed == nil {
		p.changed = err
	}
}

// linked returns the name under which the file was packed before, if it was.
func (p *packer) linked(name string, fi fs.FileInfo) string {
	sys, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || sys.Nlink < 2 {
		return ""
	}
	i := inodeOf(fi)
	if first, ok := p.links[i]; ok {
		return first
	}
	if len(p.links) < maxLinks {
		p.links[i] = name
	}
	return ""
}

// pad writes missing bytes of a file and those up to the next block.
func (p *packer) pad(missing, size int64) error {
	missing += -size & (int64(len(padding)) - 1)
	for missing > 0 {
		n := min(missing, hole)
		if _, err := p.w.Write(zeros[:n]); err != nil {
			return hostError(err)
		}
		missing -= n
	}
	return nil
}

// header writes one header. The content follows without a tar.Writer, which
// would copy it: each has one of its own.
func (p *packer) header(h *tar.Header) error {
	if err := tar.NewWriter(p.w).WriteHeader(h); err != nil {
		return fmt.Errorf("pack %s: %w", h.Name, hostError(err))
	}
	return nil
}

// header is what is common to all types.
func header(name string, fi fs.FileInfo) *tar.Header {
	h := &tar.Header{Name: name, Mode: int64(fi.Mode().Perm()), ModTime: fi.ModTime(), Format: tar.FormatPAX}
	for bit, m := range map[int64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if fi.Mode()&m != 0 {
			h.Mode |= bit
		}
	}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		h.Uid, h.Gid = int(sys.Uid), int(sys.Gid)
	}
	return h
}

func inodeOf(fi fs.FileInfo) inode {
	sys, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}
	}
	return inode{sys.Dev, sys.Ino}
}
