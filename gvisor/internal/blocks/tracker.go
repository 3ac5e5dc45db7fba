package blocks

import (
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Tracker knows the last version of a file and what its blocks were. It is not
// safe for concurrent use.
type Tracker struct {
	dir  string // of the segments
	seed maphash.Seed
	last Version
	sums []uint64 // hashes of last.entries, or nil when they are not known
	next uint32   // number of the next segment
}

// NewTracker returns a tracker that goes on from last, whose segments are in
// dir. Until [Tracker.Restore] it takes every block for changed.
func NewTracker(dir string, last Version) *Tracker {
	t := &Tracker{dir: dir, seed: maphash.MakeSeed(), last: last}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if id, ok := IsSegment(e.Name()); ok {
			t.next = max(t.next, id+1)
		}
	}
	return t
}

// Draft is a version that is being made. End it with Keep or Discard.
type Draft struct {
	Version Version
	Changed int // blocks written
	t       *Tracker
	sums    []uint64
	segment *os.File
	slots   atomic.Int64
	id      uint32
}

// Capture makes a draft of what file holds in ranges now, which may be at most
// so many bytes. The file must not change meanwhile. What it writes is not on
// stable storage until [Draft.Sync].
func (t *Tracker) Capture(file io.ReaderAt, ranges []Range, most int64) (_ *Draft, err error) {
	used, err := uses(ranges, most)
	if err != nil {
		return nil, err
	}
	d := &Draft{t: t, id: t.next, sums: make([]uint64, len(used))}
	d.Version.entries = make([]entry, len(used))
	path := filepath.Join(t.dir, Segment{ID: d.id}.Name())
	if d.segment, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	t.next++
	err = each(len(used), func(i int, buf []byte) error { return d.capture(file, i, used[i], buf) })
	if err != nil {
		d.Discard()
		return nil, err
	}
	d.Changed = int(d.slots.Load())
	return d, nil
}

// capture does one block.
func (d *Draft) capture(file io.ReaderAt, i int, u use, buf []byte) error {
	if u.pages != 1<<pagesOfBlock-1 {
		clear(buf) // what is not in use counts as zero
	}
	base := int64(u.number) * Size
	err := u.pages.runs(func(from, to int) error { return readFull(file, buf[from:to], base+int64(from)) })
	if err != nil {
		return err
	}
	d.sums[i] = maphash.Bytes(d.t.seed, buf)
	if at := d.t.last.find(u.number); at >= 0 && d.t.sums != nil && d.t.sums[at] == d.sums[i] {
		d.Version.entries[i] = d.t.last.entries[at]
		return nil
	}
	d.Version.entries[i], err = d.append(u.number, crc32.Checksum(buf, castagnoli), buf)
	return err
}

// append writes a block to the segment. It is safe for concurrent use.
func (d *Draft) append(number, crc uint32, buf []byte) (entry, error) {
	slot := d.slots.Add(1) - 1
	_, err := d.segment.WriteAt(buf, slot*Size)
	return entry{number, d.id, uint32(slot), crc}, err
}

// Same tells whether the draft is the same as the version before it.
func (d *Draft) Same() bool {
	return d.Changed == 0 && len(d.Version.entries) == len(d.t.last.entries)
}

// Sync brings the draft to stable storage, names of files aside, and settles
// which segments it has. It may rewrite old segments: the error is [ErrDamaged]
// when one of them is. The next draft has no need of them.
func (d *Draft) Sync() error {
	if err := d.compact(); err != nil {
		if errors.Is(err, ErrDamaged) {
			d.t.sums = nil // the file has it all: each block counts as changed
		}
		return err
	}
	d.Version.Segments = d.segments()
	return d.segment.Sync()
}

// segments lists those the draft needs, by age.
func (d *Draft) segments() []Segment {
	var out []Segment
	live := d.live()
	for _, s := range append(slices.Clone(d.t.last.Segments), Segment{d.id, d.slots.Load()}) {
		if live[s.ID] > 0 {
			out = append(out, s)
		}
	}
	return out
}

// live counts the blocks that the draft needs of each segment.
func (d *Draft) live() map[uint32]int64 {
	live := map[uint32]int64{}
	for _, e := range d.Version.entries {
		live[e.segment]++
	}
	return live
}

// maxSegments bounds the number of files: each save adds one.
const maxSegments = 32

// compact copies what is still needed of segments that hold mostly what is
// not, and of the smallest when they are many, to the segment of the draft.
// What is written for that is, over time, about as much as was saved.
func (d *Draft) compact() error {
	live := d.live()
	old := slices.DeleteFunc(slices.Clone(d.t.last.Segments), func(s Segment) bool { return live[s.ID] == 0 })
	slices.SortFunc(old, func(a, b Segment) int { return int(live[b.ID] - live[a.ID]) })
	var victims []Segment
	for i, s := range old {
		if live[s.ID]*2 < s.Blocks || len(old) >= maxSegments && i >= maxSegments/2 {
			victims = append(victims, s)
		}
	}
	if len(victims) == 0 {
		return nil
	}
	files, err := openSegments(d.t.dir, victims)
	if err != nil {
		return err
	}
	defer files.close()
	return each(len(d.Version.entries), func(i int, buf []byte) error {
		e := &d.Version.entries[i]
		f := files[e.segment]
		if f == nil {
			return nil
		}
		if err := e.read(f, buf); err != nil {
			return err
		}
		moved, err := d.append(e.number, e.crc, buf)
		*e = moved
		return err
	})
}

// read fills buf with the block in its segment f.
func (e *entry) read(f *os.File, buf []byte) error {
	err := readFull(f, buf, int64(e.slot)*Size)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %s ends before %d", ErrDamaged, f.Name(), int64(e.slot+1)*Size)
	}
	if err != nil {
		return err
	}
	if got := crc32.Checksum(buf, castagnoli); got != e.crc {
		return fmt.Errorf("%w: %s has checksum %08x at %d, not %08x", ErrDamaged, f.Name(), got, int64(e.slot)*Size, e.crc)
	}
	return nil
}

func readFull(f io.ReaderAt, buf []byte, at int64) error {
	n, err := f.ReadAt(buf, at)
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Keep makes the draft the last version. What the one before had and this one
// has not remains until [Version.Clean].
func (d *Draft) Keep() {
	d.segment.Close()
	d.t.last, d.t.sums = d.Version, d.sums
}

// Discard removes what the draft has written.
func (d *Draft) Discard() {
	d.segment.Close()
	_ = os.Remove(d.segment.Name())
}

// batch is how many blocks a worker takes at a time: 4 MiB.
const batch = 64

// each calls f for 0 to n-1 on all processors, each with a buffer of a block,
// and returns the first error.
func each(n int, f func(i int, buf []byte) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range min(runtime.GOMAXPROCS(0), (n+batch-1)/batch) {
		wg.Go(func() {
			buf := make([]byte, Size)
			for failed.Load() == nil {
				from := int(next.Add(batch)) - batch
				for i := from; i < min(from+batch, n); i++ {
					if err := f(i, buf); err != nil {
						failed.CompareAndSwap(nil, &err)
						return
					}
				}
				if from+batch >= n {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
