package gvisor

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
	"strconv"

	"github.com/boxlite-go/boxlite/gvisor/internal/blocks"
)

// tree is what a saved tree says.
type tree struct {
	// sum is a hash of it, whatever the order of its entries: the sentry lists
	// a directory in another one each time. Two trees of the same sum and seed
	// are the same; the same tree may have different sums, where one of several
	// hard links comes first.
	sum uint64
	// used are the parts of the upper file that its files have, ascending.
	// What only a deleted file has, that somebody holds open, is not among them.
	used []blocks.Range
}

const (
	// tarBlock is the unit of a tar archive.
	tarBlock = 512
	// The content of a regular file in a tree is its size, and for each of its
	// parts where it begins and ends in the file, and begins in the upper file.
	treeSizeBytes, treePartBytes = 8, 24
)

// readTree reads the tree in the first size bytes of f.
func readTree(f *os.File, size int64, seed maphash.Seed) (t tree, err error) {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	var h maphash.Hash
	h.SetSeed(seed)
	var block [tarBlock]byte
	var content []byte
	for {
		_, err := io.ReadFull(r, block[:])
		if err == io.EOF || block == [tarBlock]byte{} {
			return t, t.merge()
		}
		if err != nil {
			return t, fmt.Errorf("saved tree: %w", err)
		}
		_, _ = h.Write(block[:])
		// The size is in octal; what does not fit, no file here has.
		n, err := strconv.ParseInt(string(bytes.Trim(block[124:136], " \x00")), 8, 64)
		if err != nil || n < 0 || n > size {
			return t, fmt.Errorf("entry of a saved tree: size %q", block[124:136])
		}
		padded := int(n+tarBlock-1) / tarBlock * tarBlock
		content = slices.Grow(content[:0], padded)[:padded]
		if _, err := io.ReadFull(r, content); err != nil {
			return t, fmt.Errorf("entry of a saved tree: %w", err)
		}
		_, _ = h.Write(content)
		switch block[156] {
		case 'x', 'L', 'K': // belong to the entry that follows
			continue
		case '0':
			t.add(content[:n])
		}
		t.sum += h.Sum64()
		h.Reset()
	}
}

// add notes the parts of a regular file.
func (t *tree) add(content []byte) {
	for at := treeSizeBytes; at+treePartBytes <= len(content); at += treePartBytes {
		number := func(i int) int64 { return int64(binary.LittleEndian.Uint64(content[at+8*i:])) }
		from, to, start := number(0), number(1), number(2)
		t.used = append(t.used, blocks.Range{Start: start, End: start + to - from})
	}
}

// merge sorts the parts and makes one of those that touch.
func (t *tree) merge() error {
	slices.SortFunc(t.used, func(a, b blocks.Range) int { return cmp.Compare(a.Start, b.Start) })
	merged := t.used[:0]
	for _, r := range t.used {
		if r.Start < 0 || r.End < r.Start {
			return fmt.Errorf("saved tree: a file has %d to %d", r.Start, r.End)
		}
		if last := len(merged) - 1; last >= 0 && merged[last].End >= r.Start {
			merged[last].End = max(merged[last].End, r.End)
		} else {
			merged = append(merged, r)
		}
	}
	t.used = merged
	return nil
}

// common are the parts that two lists of ascending ranges have in common.
func common(a, b []blocks.Range) (out []blocks.Range) {
	for len(a) > 0 && len(b) > 0 {
		r := blocks.Range{Start: max(a[0].Start, b[0].Start), End: min(a[0].End, b[0].End)}
		if r.Start < r.End {
			out = append(out, r)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}
