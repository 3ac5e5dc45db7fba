package erofs

import (
	"cmp"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"syscall"
)

// The on-disk format: https://docs.kernel.org/filesystems/erofs.html
const (
	blockBits  = 12
	blockSize  = 1 << blockBits
	superAt    = 1024
	superMagic = 0xE0F5E1E2
	inodeSize  = 64 // extended
	slotBits   = 5
	slotSize   = 1 << slotBits
	direntSize = 12

	compatChecksum = 1
	extended       = 1 // bit 0 of an inode's format
	flatInline     = 2 // bits 1-3
)

// dirent is one name in a directory that is being laid out.
type dirent struct {
	name string
	node *node
}

func blocks(size uint64) uint32 { return uint32((size + blockSize - 1) >> blockBits) }

// Close writes directories, inodes and the superblock, and returns the size of
// the image in bytes. It neither syncs nor closes the file.
func (w *Writer) Close() (int64, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.err = w.finish(); w.err != nil {
		return 0, w.err
	}
	w.err = errClosed
	return w.pos(), nil
}

func (w *Writer) finish() error {
	nodes := w.collect()
	place(nodes)
	if err := w.writeData(nodes); err != nil {
		return err
	}
	meta := w.pos()
	if err := w.writeInodes(nodes, meta); err != nil {
		return err
	}
	if err := w.pad(); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.f.Truncate(w.pos()); err != nil {
		return err
	}
	w.punch()
	_, err := w.f.WriteAt(w.superblock(len(nodes), meta), superAt)
	return err
}

// collect lists all nodes, the root first, in an order that depends on the
// tree alone, and turns the maps of directories into sorted lists.
func (w *Writer) collect() []*node {
	nodes := make([]*node, 0, w.entries+1)
	seen := make(map[*node]bool) // of those with several names
	var walk func(n, parent *node)
	walk = func(n, parent *node) {
		nodes = append(nodes, n)
		if !n.dir() {
			return
		}
		n.sorted = make([]dirent, 0, len(n.children)+2)
		n.sorted = append(n.sorted, dirent{".", n}, dirent{"..", parent})
		n.nlink = 2
		for name, c := range n.children {
			n.sorted = append(n.sorted, dirent{name, c.node})
			if c.node.dir() {
				n.nlink++
			}
		}
		n.children = nil
		slices.SortFunc(n.sorted, func(a, b dirent) int { return cmp.Compare(a.name, b.name) })
		for _, e := range n.sorted {
			if e.node == n || e.node == parent || seen[e.node] {
				continue
			}
			if !e.node.dir() && e.node.nlink > 1 {
				seen[e.node] = true
			}
			walk(e.node, n)
		}
	}
	walk(w.root, w.root)
	return nodes
}

// place gives every node its number, which is where its inode goes.
func place(nodes []*node) {
	// Number 0 is left out: to readdir it means "no file".
	off := uint64(inodeSize)
	for _, n := range nodes {
		tail := uint64(0)
		switch {
		case n.dir():
			n.size = dirSize(n.sorted)
			tail = n.size % blockSize
		case n.mode&modeType == modeLink:
			tail = n.size
		}
		n.inline = tail > 0 && tail <= blockSize-inodeSize
		if !n.inline {
			tail = 0
		}
		if off%blockSize+inodeSize+tail > blockSize {
			off = (off + blockSize - 1) &^ (blockSize - 1)
		}
		n.nid = off >> slotBits
		off += (inodeSize + tail + slotSize - 1) &^ (slotSize - 1)
	}
}

// fit returns how many of the entries fill one block, and their bytes.
func fit(entries []dirent) (n, size int) {
	for n < len(entries) && size+direntSize+len(entries[n].name) <= blockSize {
		size += direntSize + len(entries[n].name)
		n++
	}
	return n, size
}

func dirSize(entries []dirent) uint64 {
	total := uint64(0)
	for {
		n, size := fit(entries)
		if entries = entries[n:]; len(entries) == 0 {
			return total + uint64(size)
		}
		total += blockSize
	}
}

// dirData encodes a directory into buf.
func dirData(buf []byte, entries []dirent) []byte {
	buf = buf[:0]
	for len(entries) > 0 {
		n, size := fit(entries)
		start := len(buf)
		buf = append(buf, make([]byte, size)...)
		block, nameAt := buf[start:], n*direntSize
		for i, e := range entries[:n] {
			d := block[i*direntSize:]
			binary.LittleEndian.PutUint64(d, e.node.nid)
			binary.LittleEndian.PutUint16(d[8:], uint16(nameAt))
			d[10] = fileType(e.node.mode)
			nameAt += copy(block[nameAt:], e.name)
		}
		if entries = entries[n:]; len(entries) > 0 {
			buf = append(buf, make([]byte, blockSize-size)...)
		}
	}
	return buf
}

func fileType(mode uint16) byte {
	switch mode & modeType {
	case modeReg:
		return 1
	case modeDir:
		return 2
	case modeFIFO:
		return 5
	case modeLink:
		return 7
	}
	return 0
}

// content is what directories and symlinks hold, in whole blocks and the tail
// that goes behind the inode.
func (n *node) content(buf []byte) (data, tail []byte) {
	if n.dir() {
		data = dirData(buf, n.sorted)
	} else {
		data = append(buf[:0], n.target...)
	}
	if n.inline {
		cut := len(data) &^ (blockSize - 1)
		return data[:cut], data[cut:]
	}
	return data, nil
}

// writeData writes the whole blocks of directories and symlinks.
func (w *Writer) writeData(nodes []*node) error {
	var buf []byte
	for _, n := range nodes {
		if n.dir() || n.mode&modeType == modeLink {
			if n.inline && n.size < blockSize {
				continue
			}
			data, _ := n.content(buf)
			n.block = uint32(w.pos() >> blockBits)
			if err := w.write(data); err != nil {
				return err
			}
			if err := w.pad(); err != nil {
				return err
			}
			buf = data
		}
		if w.pos() > w.o.MaxBytes {
			return refuse("/", "image is larger than %d bytes", w.o.MaxBytes)
		}
	}
	return nil
}

func (w *Writer) writeInodes(nodes []*node, meta int64) error {
	var buf []byte
	for i, n := range nodes {
		gap := meta + int64(n.nid)<<slotBits - w.pos()
		if err := w.write(zeros[:gap]); err != nil {
			return err
		}
		b := n.inode(uint32(i + 1))
		if err := w.write(b[:]); err != nil {
			return err
		}
		if n.inline {
			data, tail := n.content(buf)
			if err := w.write(tail); err != nil {
				return err
			}
			buf = data
		}
	}
	return nil
}

func (n *node) inode(ino uint32) (b [inodeSize]byte) {
	format := uint16(extended)
	if n.inline {
		format |= flatInline << 1
	}
	le := binary.LittleEndian
	le.PutUint16(b[0:], format)
	le.PutUint16(b[4:], n.mode)
	le.PutUint64(b[8:], n.size)
	le.PutUint32(b[16:], n.block)
	le.PutUint32(b[20:], ino)
	le.PutUint32(b[24:], n.uid)
	le.PutUint32(b[28:], n.gid)
	le.PutUint64(b[32:], uint64(n.mtime))
	le.PutUint32(b[40:], n.nsec)
	le.PutUint32(b[44:], n.nlink)
	return b
}

func (w *Writer) superblock(inodes int, meta int64) []byte {
	s := make([]byte, blockSize-superAt)
	le := binary.LittleEndian
	le.PutUint32(s[0:], superMagic)
	le.PutUint32(s[8:], compatChecksum)
	s[12] = blockBits
	le.PutUint16(s[14:], uint16(w.root.nid))
	le.PutUint64(s[16:], uint64(inodes))
	le.PutUint32(s[36:], uint32(w.pos()>>blockBits))
	le.PutUint32(s[40:], uint32(meta>>blockBits))
	// Linux does not invert the sum at the end, crc32 does.
	le.PutUint32(s[4:], ^crc32.Checksum(s, crc32.MakeTable(crc32.Castagnoli)))
	return s
}

// punch gives the blocks of replaced files back to the host. Where the file
// system cannot, they stay: it costs space, nothing else.
func (w *Writer) punch() {
	const keepSizePunchHole = 0x1 | 0x2 // FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
	for _, e := range w.dead {
		off, n := int64(e.block)<<blockBits, int64(e.n)<<blockBits
		if syscall.Fallocate(int(w.f.Fd()), keepSizePunchHole, off, n) != nil {
			return
		}
	}
}
