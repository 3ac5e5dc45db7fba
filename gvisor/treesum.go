package gvisor

import (
	"bufio"
	"bytes"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"strconv"
)

// tarBlock is the unit of a tar archive.
const tarBlock = 512

// treeSum is a hash of what a saved tree says, whatever the order of its
// entries: the sentry lists a directory in another one each time. Two trees of
// the same sum and seed are the same; the same tree may have different sums,
// where one of several hard links comes first.
func treeSum(f *os.File, seed maphash.Seed) (sum uint64, err error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, fi.Size()), 1<<20)
	var h maphash.Hash
	h.SetSeed(seed)
	var block [tarBlock]byte
	for {
		_, err := io.ReadFull(r, block[:])
		if err != nil || block == [tarBlock]byte{} {
			if err == io.EOF {
				err = nil
			}
			return sum, err
		}
		_, _ = h.Write(block[:])
		// The size is in octal; what does not fit, no file here has.
		size, err := strconv.ParseInt(string(bytes.Trim(block[124:136], " \x00")), 8, 64)
		if err != nil {
			return 0, fmt.Errorf("entry of a saved tree: %w", err)
		}
		if _, err := io.CopyN(&h, r, (size+tarBlock-1)/tarBlock*tarBlock); err != nil {
			return 0, fmt.Errorf("entry of a saved tree: %w", err)
		}
		switch block[156] {
		case 'x', 'L', 'K': // belong to the entry that follows
		default:
			sum += h.Sum64()
			h.Reset()
		}
	}
}
