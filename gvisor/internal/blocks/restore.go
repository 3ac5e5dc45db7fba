package blocks

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Restore writes what the last version holds in ranges to where it was, in
// file, and remembers the blocks. All that it writes has been compared with
// its checksum; the error is [ErrDamaged] where it differs.
func (t *Tracker) Restore(file io.WriterAt, ranges []Range) error {
	used, err := uses(ranges)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(used) != len(t.last.entries) {
		return fmt.Errorf("%w: %d blocks are in use, %d are saved", ErrDamaged, len(used), len(t.last.entries))
	}
	files, err := openSegments(t.dir, t.last.Segments)
	if err != nil {
		return err
	}
	defer files.close()
	sums := make([]uint64, len(used))
	err = each(len(used), func(i int, buf []byte) error {
		e, u := &t.last.entries[i], used[i]
		if u.number != e.number {
			return fmt.Errorf("%w: block %d is in use and not saved", ErrDamaged, u.number)
		}
		if err := e.read(files[e.segment], buf); err != nil {
			return err
		}
		sums[i] = maphash.Bytes(t.seed, buf)
		return u.runs(func(from, to int) error {
			_, err := file.WriteAt(buf[from:to], int64(u.number)*Size+int64(from))
			return err
		})
	})
	if err == nil {
		t.sums = sums
	}
	return err
}

// segmentFiles are open segments, by number.
type segmentFiles map[uint32]*os.File

func openSegments(dir string, list []Segment) (segmentFiles, error) {
	files := segmentFiles{}
	for _, s := range list {
		f, err := os.Open(filepath.Join(dir, s.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if err != nil {
			files.close()
			return nil, err
		}
		files[s.ID] = f
	}
	return files, nil
}

func (files segmentFiles) close() {
	for _, f := range files {
		f.Close()
	}
}
