// Package blocks keeps versions of a large sparse file, each at the cost of
// what has changed since the one before.
//
// The file is looked at in blocks. A block that has changed is written to the
// end of a segment, a file that is never changed once it is complete. A
// [Version] says where each block is; it is a table that its user stores, and
// with that commits. Segments that hold little that is still needed are
// rewritten, so that all of them take at most about twice what they hold.
//
// Whether a block has changed is judged by a hash of 64 bits with a random
// key, made anew in each process: who writes the file cannot aim at equal
// hashes, and by chance they happen once in 2^64 changes. What is read back is
// judged by the checksum in the version.
package blocks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	// Size of a block. Small ones make the table large, large ones write much
	// for a small change: at 64 KiB a table takes 1/4096 of the file, and a
	// page that has changed takes 16 times its size.
	Size = 64 << 10
	// page is the unit in which a file is in use, that of all processors
	// gVisor runs on.
	page         = 4 << 10
	pagesOfBlock = Size / page
	// segmentPrefix begins the name of a segment.
	segmentPrefix = "segment-"
)

// ErrDamaged says that what was read is not what was saved.
var ErrDamaged = errors.New("saved layer is damaged")

// Range is a part of the file that is in use. Its ends are multiples of 4096.
type Range struct{ Start, End int64 }

// Version says where each block of one state of the file is. The zero Version
// is of an empty file.
type Version struct {
	// Segments that hold blocks of this version.
	Segments []Segment
	entries  []entry // by number, ascending
}

// Segment is a file of blocks.
type Segment struct {
	ID     uint32 `json:"id"`
	Blocks int64  `json:"blocks"`
}

// Name of the segment's file.
func (s Segment) Name() string { return fmt.Sprintf("%s%08x", segmentPrefix, s.ID) }

// IsSegment tells whether a file of this name is a segment, and its number.
func IsSegment(name string) (id uint32, ok bool) {
	hex, ok := strings.CutPrefix(name, segmentPrefix)
	n, err := strconv.ParseUint(hex, 16, 32)
	return uint32(n), ok && err == nil
}

// entry is one block: which, where it lies, and its checksum.
type entry struct {
	number, segment, slot, crc uint32
}

// entryBytes is the size of an entry in a table.
const entryBytes = 16

// Bytes is how much of the file the version holds.
func (v *Version) Bytes() int64 { return int64(len(v.entries)) * Size }

// Table is the version in bytes, but for Segments.
func (v *Version) Table() []byte {
	b := make([]byte, 0, len(v.entries)*entryBytes)
	for _, e := range v.entries {
		b = binary.LittleEndian.AppendUint32(b, e.number)
		b = binary.LittleEndian.AppendUint32(b, e.segment)
		b = binary.LittleEndian.AppendUint32(b, e.slot)
		b = binary.LittleEndian.AppendUint32(b, e.crc)
	}
	return b
}

// Read makes a version of a table and its segments, whose files in dir must
// have their size. The error is [ErrDamaged] when they do not fit together.
func Read(dir string, table []byte, segments []Segment) (Version, error) {
	v := Version{Segments: segments, entries: make([]entry, 0, len(table)/entryBytes)}
	sizes := map[uint32]int64{}
	for _, s := range segments {
		path := filepath.Join(dir, s.Name())
		fi, err := os.Stat(path)
		if err != nil {
			return v, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if got, want := fi.Size(), s.Blocks*Size; got != want {
			return v, fmt.Errorf("%w: %s has %d bytes, not the %d that were saved", ErrDamaged, path, got, want)
		}
		sizes[s.ID] = s.Blocks
	}
	for at := 0; at+entryBytes <= len(table); at += entryBytes {
		f := func(i int) uint32 { return binary.LittleEndian.Uint32(table[at+4*i:]) }
		e := entry{f(0), f(1), f(2), f(3)}
		last := len(v.entries) - 1
		if int64(e.slot) >= sizes[e.segment] || last >= 0 && v.entries[last].number >= e.number {
			return v, fmt.Errorf("%w: table of blocks, entry %d", ErrDamaged, at/entryBytes)
		}
		v.entries = append(v.entries, e)
	}
	if len(table)%entryBytes != 0 {
		return v, fmt.Errorf("%w: table of blocks has %d bytes", ErrDamaged, len(table))
	}
	return v, nil
}

// find returns the place of a block in the table, or -1.
func (v *Version) find(number uint32) int {
	i, ok := slices.BinarySearchFunc(v.entries, number, func(e entry, n uint32) int {
		return int(int64(e.number) - int64(n))
	})
	if !ok {
		return -1
	}
	return i
}

// Clean removes the segments in dir that v does not need. It is tidying: what
// cannot be removed now is tried again next time.
func (v *Version) Clean(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		id, ok := IsSegment(e.Name())
		needed := slices.ContainsFunc(v.Segments, func(s Segment) bool { return s.ID == id })
		if ok && !needed {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pageSet has a bit for each page of a block.
type pageSet uint16

// use is a block that is in use, and which of its pages are.
type use struct {
	number uint32
	pages  pageSet
}

// maxNumber is that of the last block there can be: it is far beyond the size of
// any disk (256 TiB).
const maxNumber = 1<<32 - 1

// uses are the blocks that ranges touch. Ranges must be ascending, in pages,
// must not overlap, and have at most so many bytes together: the list may be a
// hostile one.
func uses(ranges []Range, most int64) ([]use, error) {
	var all []use
	end, left := int64(0), most
	for _, r := range ranges {
		if r.Start < end || r.End <= r.Start || r.Start%page != 0 || r.End%page != 0 || r.End/Size >= maxNumber {
			return nil, fmt.Errorf("range %d-%d of a file, after %d, makes no sense", r.Start, r.End, end)
		}
		if r.End-r.Start > left {
			return nil, fmt.Errorf("more than %d bytes of a file are in use, which is all it may have", most)
		}
		end, left = r.End, left-(r.End-r.Start)
		for at := r.Start; at < r.End; {
			number := uint32(at / Size)
			upTo := min(r.End, (at/Size+1)*Size)
			first, n := at%Size/page, (upTo-at)/page
			pages := pageSet((1<<n - 1) << first)
			if last := len(all) - 1; last >= 0 && all[last].number == number {
				all[last].pages |= pages
			} else {
				all = append(all, use{number, pages})
			}
			at = upTo
		}
	}
	return all, nil
}

// runs calls f for each run of pages in the set, with offsets in the block.
func (s pageSet) runs(f func(from, to int) error) error {
	for i := 0; i < pagesOfBlock; {
		if s>>i&1 == 0 {
			i++
			continue
		}
		from := i
		for i < pagesOfBlock && s>>i&1 == 1 {
			i++
		}
		if err := f(from*page, i*page); err != nil {
			return err
		}
	}
	return nil
}
