package blocks

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Restore writes what the last version holds to where it was, in file, which
// must be empty, and remembers the blocks. Pages of zeros remain holes. All that
// it writes has been compared with its checksum; the error is [ErrDamaged] where
// it differs.
func (t *Tracker) Restore(file io.WriterAt) error {
	files, err := openSegments(t.dir, t.last.Segments)
	if err != nil {
		return err
	}
	defer files.close()
	sums := make([]uint64, len(t.last.entries))
	err = each(len(sums), func(i int, buf []byte) error {
		e := &t.last.entries[i]
		if err := e.read(files[e.segment], buf); err != nil {
			return err
		}
		sums[i] = maphash.Bytes(t.seed, buf)
		return contents(buf).runs(func(from, to int) error {
			_, err := file.WriteAt(buf[from:to], int64(e.number)*Size+int64(from))
			return err
		})
	})
	if err == nil {
		t.sums = sums
	}
	return err
}

// contents are the pages of a block that are not all zero.
func contents(buf []byte) (pages pageSet) {
	var zeros [page]byte
	for i := range pagesOfBlock {
		if !bytes.Equal(buf[i*page:(i+1)*page], zeros[:]) {
			pages |= 1 << i
		}
	}
	return pages
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
