// Package tree turns files of the host into tar streams and tar streams from a
// box into files of the host. A stream from a box is hostile: nothing in it
// leads out of the directory it is unpacked in.
package tree

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"
)

// bufferSize makes large files cost few system calls.
const bufferSize = 1 << 20

// PackOptions says how to pack.
type PackOptions struct {
	Name        string            // of the top entry; "." packs what is in a directory
	FollowLinks bool              // pack what a symbolic link points at, instead of the link
	Skipped     func(path string) // called for sockets, devices and pipes, which are left out
}

// Pack writes the file or directory at path to w as a tar stream. Owners are
// left out.
func Pack(w io.Writer, path string, o PackOptions) error {
	bw := bufio.NewWriterSize(w, bufferSize)
	p := &packer{tw: tar.NewWriter(bw), o: o, links: map[inode]string{}, buf: make([]byte, bufferSize)}
	if err := p.pack(path, o.Name); err != nil {
		return err
	}
	if err := p.tw.Close(); err != nil {
		return err
	}
	return bw.Flush()
}

type inode struct{ dev, ino uint64 }

type packer struct {
	tw    *tar.Writer
	o     PackOptions
	links map[inode]string // files with several names, by their first
	buf   []byte
}

// pack writes the top: a single file, or a directory tree that is read through
// an os.Root, so that a link swapped in meanwhile cannot lead out of it.
func (p *packer) pack(top, name string) error {
	stat := os.Lstat
	if p.o.FollowLinks {
		stat = os.Stat
	}
	st, err := stat(top)
	if err != nil {
		return err
	}
	if st.IsDir() {
		root, err := os.OpenRoot(top)
		if err != nil {
			return err
		}
		defer root.Close()
		return p.entry(root, ".", name, st)
	}
	root, err := os.OpenRoot(filepath.Dir(top))
	if err != nil {
		return err
	}
	defer root.Close()
	if p.o.FollowLinks {
		return p.followedFile(top, name, st)
	}
	return p.entry(root, filepath.Base(top), name, st)
}

// followedFile packs a file that the caller named and wants followed, wherever
// it leads.
func (p *packer) followedFile(top, name string, st fs.FileInfo) error {
	f, err := os.Open(top)
	if err != nil {
		return err
	}
	defer f.Close()
	return p.file(f, name, st)
}

// entry writes one file of root, and for a directory all below it.
func (p *packer) entry(root *os.Root, at, name string, st fs.FileInfo) error {
	switch mode := st.Mode(); {
	case mode.IsDir():
		return p.dir(root, at, name, st)
	case mode.Type() == fs.ModeSymlink:
		return p.symlink(root, at, name, st)
	case mode.IsRegular():
		f, err := root.Open(at)
		if err != nil {
			return err
		}
		defer f.Close()
		return p.file(f, name, st)
	}
	if p.o.Skipped != nil {
		p.o.Skipped(filepath.Join(root.Name(), at))
	}
	return nil
}

func (p *packer) dir(root *os.Root, at, name string, st fs.FileInfo) error {
	if err := p.header(name+"/", "", st); err != nil {
		return err
	}
	d, err := root.Open(at)
	if err != nil {
		return err
	}
	names, err := d.Readdirnames(-1)
	d.Close()
	if err != nil {
		return err
	}
	for _, n := range names {
		below := filepath.Join(at, n)
		st, err := p.stat(root, below)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err == nil {
			err = p.entry(root, below, path.Join(name, n), st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) stat(root *os.Root, at string) (fs.FileInfo, error) {
	if p.o.FollowLinks {
		if st, err := root.Stat(at); err == nil {
			return st, nil
		}
		// A dangling link, or one that leads out of the tree, stays a link.
	}
	return root.Lstat(at)
}

func (p *packer) symlink(root *os.Root, at, name string, st fs.FileInfo) error {
	to, err := root.Readlink(at)
	if err != nil {
		return err
	}
	return p.header(name, to, st)
}

// file writes a regular file, or a link to the name it was written under.
func (p *packer) file(f *os.File, name string, st fs.FileInfo) error {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 {
		id := inode{sys.Dev, sys.Ino}
		if first, ok := p.links[id]; ok {
			return p.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: first, Mode: int64(st.Mode().Perm())})
		}
		p.links[id] = name
	}
	if err := p.header(name, "", st); err != nil {
		return err
	}
	n, err := io.CopyBuffer(onlyWriter{p.tw}, onlyReader{io.LimitReader(f, st.Size())}, p.buf)
	if err == nil && n < st.Size() {
		err = fmt.Errorf("%s shrank from %d to %d bytes while it was read", f.Name(), st.Size(), n)
	}
	return err
}

func (p *packer) header(name, link string, st fs.FileInfo) error {
	h, err := tar.FileInfoHeader(st, link)
	if err != nil {
		return err
	}
	h.Name, h.Format = name, tar.FormatPAX
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	return p.tw.WriteHeader(h)
}

// onlyWriter and onlyReader hide the copying methods of what they wrap, which
// would not use our buffer.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
