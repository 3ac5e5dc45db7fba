package erofs

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// Options bound what an image may hold. The zero value has safe defaults.
type Options struct {
	// MaxBytes is the most the image file may grow to, and about the most all
	// layers together may unpack to, in bytes. Zero means 20 GiB.
	MaxBytes int64
	// MaxEntries is the most entries all layers may have together, directories
	// they only imply included. Zero means 2 million.
	MaxEntries int
	// AllowAbsolute reads a name that begins with a slash as one below the
	// root of the image, which some builders write, instead of refusing it.
	AllowAbsolute bool
}

const (
	defaultMaxBytes   = 20 << 30
	defaultMaxEntries = 2_000_000
	// maxMeta bounds the memory of the tree: names, targets and about
	// nodeCost for each.
	maxMeta  = 768 << 20
	nodeCost = 200
	// streamSlack is how much a layer may spend on headers for each entry it
	// may have, beyond the bytes of its files.
	streamSlack = 2048
	bufSize     = 1 << 20 // a multiple of holeSize
	holeSize    = 64 << 10
)

// Writer flattens layers into one image. It is not safe for concurrent use.
// After an error it is of no more use, and neither is the file.
type Writer struct {
	f       *os.File
	o       Options
	root    *node
	stack   []*node // reused by resolve
	layer   uint32
	budget  int64 // bytes of layer streams still allowed
	meta    int64
	entries int
	dead    []extent
	err     error

	buf  []byte // bytes from base on that are not in the file yet
	base int64  // a multiple of bufSize
}

// extent is a run of blocks.
type extent struct{ block, n uint32 }

// NewWriter returns a Writer of an image in f, which must be empty and stays
// the caller's to sync and close.
func NewWriter(f *os.File, o Options) *Writer {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	// Block addresses have 32 bits.
	o.MaxBytes = min(o.MaxBytes, math.MaxUint32<<blockBits)
	if o.MaxEntries <= 0 {
		o.MaxEntries = defaultMaxEntries
	}
	w := &Writer{f: f, o: o, buf: make([]byte, 0, bufSize)}
	w.budget = o.MaxBytes + int64(o.MaxEntries)*streamSlack
	w.root = &node{mode: modeDir | 0o755, nlink: 1, children: make(map[string]child)}
	w.buf = w.buf[:blockSize] // the superblock, written last
	return w
}

// AddLayer applies an uncompressed layer on top of those before it. It reads r
// to its end, what follows the archive included, so that a hash of the stream
// is complete. A layer that is refused gives an [*EntryError]; other errors
// come from r or the file.
func (w *Writer) AddLayer(r io.Reader) error {
	if w.err != nil {
		return w.err
	}
	if w.layer++; w.err == nil {
		w.err = w.addLayer(&bounded{r, &w.budget})
	}
	return w.err
}

func (w *Writer) addLayer(r io.Reader) error {
	tr := tar.NewReader(r)
	last := ""
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			last = h.Name
			err = w.add(h, tr)
		}
		if err != nil {
			return streamError(last, err)
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return streamError(last, err)
	}
	return nil
}

// streamError names the entry at or after which a stream went wrong.
func streamError(entry string, err error) error {
	if _, ok := errors.AsType[*EntryError](err); ok {
		return err
	}
	switch {
	case errors.Is(err, errStream):
		return refuse(entry, "%v", err)
	case errors.Is(err, tar.ErrHeader):
		return refuse(entry, "what follows it is not a tar header")
	}
	return fmt.Errorf("layer at entry %q: %w", entry[:min(len(entry), maxShown)], err)
}

// bounded reads until a budget shared by all layers is used up.
type bounded struct {
	r    io.Reader
	left *int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if *b.left -= int64(n); *b.left < 0 {
		return n, errStream
	}
	return n, err
}

// count charges one entry and the memory it takes.
func (w *Writer) count(entry, name string) error {
	if w.entries++; w.entries > w.o.MaxEntries {
		return refuse(entry, "image has more than %d entries", w.o.MaxEntries)
	}
	if w.meta += nodeCost + int64(len(name)); w.meta > maxMeta {
		return refuse(entry, "names and links of the image take more than %d MiB", maxMeta>>20)
	}
	return nil
}

func (w *Writer) add(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return w.count(h.Name, "")
	}
	parts, err := w.split(h.Name, h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		if h.Typeflag != tar.TypeDir {
			return refuse(h.Name, "the root of the image must be a directory")
		}
		if err := w.count(h.Name, ""); err != nil {
			return err
		}
		return w.root.setMeta(h, modeDir)
	}
	base := parts[len(parts)-1]
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		return w.whiteout(h, parts[:len(parts)-1], hidden)
	}
	if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 { // as overlayfs has it
		return w.whiteout(h, parts[:len(parts)-1], base)
	}
	if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
		if !ownDevice(h, parts) {
			return refuse(h.Name, "device node %d:%d", h.Devmajor, h.Devminor)
		}
		return w.count(h.Name, "")
	}
	d, err := w.resolve(h.Name, parts[:len(parts)-1], true)
	if err != nil {
		return err
	}
	return w.addTo(d, base, h, r)
}

func (w *Writer) addTo(d *node, base string, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return w.addDir(d, base, h)
	case tar.TypeLink:
		return w.addLink(d, base, h)
	case tar.TypeSymlink:
		return w.addSymlink(d, base, h)
	case tar.TypeFifo:
		return w.addFile(d, base, h, modeFIFO, nil)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return w.addFile(d, base, h, modeReg, r)
	}
	return refuse(h.Name, "type %q is not supported", h.Typeflag)
}

// deviceNodes are those that root file systems carry for a /dev nobody will
// mount over, by name below dev.
var deviceNodes = map[string][2]int64{
	"null": {1, 3}, "zero": {1, 5}, "full": {1, 7}, "random": {1, 8}, "urandom": {1, 9},
	"tty": {5, 0}, "console": {5, 1}, "ptmx": {5, 2},
}

// ownDevice tells a harmless device node at its own place, which is skipped: a
// box has its own /dev. All others are refused.
func ownDevice(h *tar.Header, parts []string) bool {
	if h.Typeflag != tar.TypeChar || len(parts) != 2 || parts[0] != "dev" {
		return false
	}
	want, ok := deviceNodes[parts[1]]
	return ok && want == [2]int64{h.Devmajor, h.Devminor}
}

// whiteout hides what lower layers have at name, or all they have in the
// directory when it is the opaque mark.
func (w *Writer) whiteout(h *tar.Header, parent []string, name string) error {
	if name == "" || name == "." || name == ".." {
		return refuse(h.Name, "whiteout of nothing")
	}
	if err := w.count(h.Name, ""); err != nil {
		return err
	}
	d, err := w.resolve(h.Name, parent, false)
	if err != nil || d == nil {
		return err
	}
	switch {
	case name == ".wh..opq":
		w.hideAllLower(d)
	case strings.HasPrefix(name, ".wh."): // bookkeeping of aufs
	default:
		w.hideLower(d, name)
	}
	return nil
}

func (w *Writer) addDir(d *node, base string, h *tar.Header) error {
	old, found := d.children[base]
	if found && old.node.dir() {
		if err := w.count(h.Name, ""); err != nil {
			return err
		}
		d.children[base] = child{old.node, w.layer}
		return old.node.setMeta(h, modeDir)
	}
	n, err := w.newNode(h.Name, base, modeDir)
	if err != nil {
		return err
	}
	w.put(d, base, n)
	return n.setMeta(h, modeDir)
}

func (w *Writer) addLink(d *node, base string, h *tar.Header) error {
	parts, err := w.split(h.Name, h.Linkname)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		return refuse(h.Name, "hard link to a directory")
	}
	name := parts[len(parts)-1]
	td, err := w.resolve(h.Name, parts[:len(parts)-1], false)
	if err != nil {
		return err
	}
	var c child
	found := false
	if td != nil {
		c, found = td.children[name]
	}
	switch {
	case !found:
		return refuse(h.Name, "hard link to %q, which is not in the image", h.Linkname)
	case c.node.dir():
		return refuse(h.Name, "hard link to %q, which is a directory", h.Linkname)
	case c.node == d.children[base].node:
		return w.count(h.Name, "")
	}
	if err := w.count(h.Name, base); err != nil {
		return err
	}
	w.put(d, base, c.node)
	return nil
}

func (w *Writer) addSymlink(d *node, base string, h *tar.Header) error {
	switch t := h.Linkname; {
	case t == "":
		return refuse(h.Name, "symlink to nothing")
	case len(t) > maxPath:
		return refuse(h.Name, "symlink target is longer than %d bytes", maxPath)
	case strings.IndexByte(t, 0) >= 0:
		return refuse(h.Name, "symlink target has a NUL byte")
	}
	n, err := w.newNode(h.Name, base+h.Linkname, modeLink)
	if err != nil {
		return err
	}
	n.target = strings.Clone(h.Linkname)
	n.size = uint64(len(n.target))
	w.put(d, base, n)
	h.Mode = 0o777 // what a symlink's mode always is
	return n.setMeta(h, modeLink)
}

// addFile adds a regular file with the content of r, or a named pipe.
func (w *Writer) addFile(d *node, base string, h *tar.Header, typ uint16, r io.Reader) error {
	n, err := w.newNode(h.Name, base, typ)
	if err != nil {
		return err
	}
	if err := n.setMeta(h, typ); err != nil {
		return err
	}
	if typ == modeReg && h.Size > 0 {
		if h.Size > w.o.MaxBytes-w.pos() {
			return refuse(h.Name, "%d bytes make the image larger than %d bytes", h.Size, w.o.MaxBytes)
		}
		n.block, n.size = uint32(w.pos()>>blockBits), uint64(h.Size)
		if err := w.copy(r, h.Size); err != nil {
			return err
		}
	}
	w.put(d, base, n)
	return nil
}

func (n *node) setMeta(h *tar.Header, typ uint16) error {
	if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= math.MaxUint32 || int64(h.Gid) >= math.MaxUint32 {
		return refuse(h.Name, "owner %d:%d is out of range", h.Uid, h.Gid)
	}
	n.mode = typ | uint16(h.Mode&0o7777)
	n.uid, n.gid = uint32(h.Uid), uint32(h.Gid)
	n.mtime, n.nsec = 0, 0
	if t := h.ModTime; t.Unix() > 0 { // times before 1970 do not survive gVisor
		n.mtime, n.nsec = t.Unix(), uint32(t.Nanosecond())
	}
	return nil
}

// pos is where the next byte goes.
func (w *Writer) pos() int64 { return w.base + int64(len(w.buf)) }

// copy appends size bytes of r and pads them to a block.
func (w *Writer) copy(r io.Reader, size int64) error {
	for size > 0 {
		free := w.next()
		n, err := io.ReadFull(r, free[:min(int64(len(free)), size)])
		w.buf = w.buf[:len(w.buf)+n]
		size -= int64(n)
		if err != nil && size > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := w.drain(); err != nil {
			return err
		}
	}
	return w.pad()
}

func (w *Writer) write(p []byte) error {
	for len(p) > 0 {
		n := copy(w.next(), p)
		w.buf, p = w.buf[:len(w.buf)+n], p[n:]
		if err := w.drain(); err != nil {
			return err
		}
	}
	return nil
}

// pad fills the block with zeros.
func (w *Writer) pad() error {
	n := int(-w.pos() & (blockSize - 1))
	clear(w.next()[:n])
	w.buf = w.buf[:len(w.buf)+n]
	return w.drain()
}

// next is the free part of the buffer; never empty, as drain follows a write.
func (w *Writer) next() []byte { return w.buf[len(w.buf):cap(w.buf)] }

// drain empties the buffer when it is full.
func (w *Writer) drain() error {
	if len(w.buf) < cap(w.buf) {
		return nil
	}
	return w.flush()
}

// zeros is compared with what is written, to leave holes in the file.
var zeros [holeSize]byte

// flush writes the buffer, runs of zeros as holes.
func (w *Writer) flush() error {
	for off := 0; off < len(w.buf); off += holeSize {
		p := w.buf[off:min(off+holeSize, len(w.buf))]
		if bytes.Equal(p, zeros[:len(p)]) {
			continue
		}
		if _, err := w.f.WriteAt(p, w.base+int64(off)); err != nil {
			return err
		}
	}
	w.base += int64(len(w.buf))
	w.buf = w.buf[:0]
	return nil
}
