package blocks

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// model is a file, in memory, with the pages of it that are in use.
type model struct {
	content []byte
	used    []bool
}

func newModel(pages int) *model {
	return &model{content: make([]byte, pages*page), used: make([]bool, pages)}
}

// change uses, writes and frees some pages.
func (m *model) change(r *rand.Rand, n int) {
	for range n {
		i := r.IntN(len(m.used))
		switch run := min(1+r.IntN(40), len(m.used)-i); r.IntN(4) {
		case 0:
			for j := range run {
				m.used[i+j] = false
			}
		default:
			for j := range run {
				m.used[i+j] = true
				m.content[(i+j)*page+r.IntN(page)]++
			}
		}
	}
}

func (m *model) ranges() []Range {
	var out []Range
	for i, u := range m.used {
		if !u {
			continue
		}
		// Neighbours are separate ranges now and then.
		if last := len(out) - 1; last >= 0 && out[last].End == int64(i)*page && i%7 != 0 {
			out[last].End += page
		} else {
			out = append(out, Range{int64(i) * page, int64(i+1) * page})
		}
	}
	return out
}

// inUse is what a restore must give: what is not in use is a hole.
func (m *model) inUse() []byte {
	out := make([]byte, len(m.content))
	for i, u := range m.used {
		if u {
			copy(out[i*page:], m.content[i*page:(i+1)*page])
		}
	}
	return out
}

// save takes the model through all steps of a save.
func save(t *testing.T, tr *Tracker, m *model) *Draft {
	t.Helper()
	d, err := tr.Capture(bytes.NewReader(m.content), m.ranges(), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(); err != nil {
		t.Fatal(err)
	}
	d.Keep()
	d.Version.Clean(tr.dir)
	return d
}

// reopen reads the last version of tr back, as another process would.
func reopen(t *testing.T, tr *Tracker) *Tracker {
	t.Helper()
	v, err := Read(tr.dir, tr.last.Table(), tr.last.Segments)
	if err != nil {
		t.Fatal(err)
	}
	return NewTracker(tr.dir, v)
}

func restore(t *testing.T, tr *Tracker, m *model) ([]byte, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := tr.Restore(f); err != nil {
		return nil, err
	}
	if err := f.Truncate(int64(len(m.content))); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b, nil
}

func TestVersionsComeBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	m := newModel(4000)
	tr := NewTracker(t.TempDir(), Version{})
	for round := range 150 {
		m.change(r, r.IntN(6))
		d := save(t, tr, m)
		if round%5 != 0 {
			continue
		}
		tr = reopen(t, tr) // and goes on from there
		got, err := restore(t, tr, m)
		if err != nil || !bytes.Equal(got, m.inUse()) {
			t.Fatalf("round %d: got other bytes, %v, want those that were saved", round, err)
		}
		var size int64
		for _, s := range d.Version.Segments {
			size += s.Blocks * Size
		}
		if most := 2*d.Version.Bytes() + 4*Size; size > most || len(d.Version.Segments) > maxSegments+1 {
			t.Errorf("round %d: %d segments of %d bytes for %d, want at most %d of %d",
				round, len(d.Version.Segments), size, d.Version.Bytes(), maxSegments+1, most)
		}
	}
}

func TestOnlyWhatChangedIsWritten(t *testing.T) {
	m := newModel(16 * 1000)
	for i := range m.used {
		m.used[i] = true
	}
	tr := NewTracker(t.TempDir(), Version{})
	if got := save(t, tr, m).Changed; got != 1000 {
		t.Errorf("first save: got %d blocks written, want 1000", got)
	}
	if d := save(t, tr, m); d.Changed != 0 {
		t.Errorf("save of the same: got %d blocks written, want 0", d.Changed)
	}
	m.content[5*Size+17]++
	if d := save(t, tr, m); d.Changed != 1 || d.Same() {
		t.Errorf("save after a change: got %d blocks written, want 1", d.Changed)
	}
	tr = reopen(t, tr)
	if _, err := restore(t, tr, m); err != nil {
		t.Fatal(err)
	}
	if d := save(t, tr, m); d.Changed != 0 {
		t.Errorf("save after a restore: got %d blocks written, want 0", d.Changed)
	}
}

func TestDamageIsFound(t *testing.T) {
	m := newModel(64)
	m.change(rand.New(rand.NewPCG(3, 4)), 10)
	tr := NewTracker(t.TempDir(), Version{})
	save(t, tr, m)
	path := filepath.Join(tr.dir, tr.last.Segments[0].Name())
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{0, len(whole) / 2, len(whole) - 1} {
		bad := slices.Clone(whole)
		bad[at] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := restore(t, reopen(t, tr), m); !errors.Is(err, ErrDamaged) {
			t.Errorf("bit flipped at %d: got %v, want %v", at, err, ErrDamaged)
		}
	}
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(tr.dir, tr.last.Table(), tr.last.Segments); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut segment: got %v, want %v", err, ErrDamaged)
	}
}

// What was saved may rot while its file goes on. It is found when it would be
// copied, and then written anew from the file.
func TestDamageOfOldSegmentsIsMended(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"other bytes": func(path string) error {
			fi, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, make([]byte, fi.Size()), 0o600)
		},
		"cut":  func(path string) error { return os.Truncate(path, 100) },
		"gone": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			m := newModel(16 * 100)
			for i := range m.used {
				m.used[i], m.content[i*page] = true, 1
			}
			tr := NewTracker(t.TempDir(), Version{})
			save(t, tr, m)
			if err := damage(filepath.Join(tr.dir, tr.last.Segments[0].Name())); err != nil {
				t.Fatal(err)
			}
			for i := range 60 { // so much that the rest is copied
				m.content[i*Size]++
			}
			d, err := tr.Capture(bytes.NewReader(m.content), m.ranges(), 1<<40)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Sync(); !errors.Is(err, ErrDamaged) {
				t.Fatalf("save that copies what is damaged: got %v, want %v", err, ErrDamaged)
			}
			d.Discard()
			save(t, tr, m)
			if got, err := restore(t, reopen(t, tr), m); err != nil || !bytes.Equal(got, m.inUse()) {
				t.Errorf("the save after it: got other bytes, %v, want those of the file", err)
			}
		})
	}
}

func TestDiscardLeavesNothing(t *testing.T) {
	m := newModel(64)
	m.used[3] = true
	tr := NewTracker(t.TempDir(), Version{})
	d, err := tr.Capture(bytes.NewReader(m.content), m.ranges(), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	d.Discard()
	if _, err := tr.Capture(bytes.NewReader(nil), m.ranges(), 1<<40); err == nil {
		t.Error("capture of a file that is too short: got nil, want an error")
	}
	if left, _ := os.ReadDir(tr.dir); len(left) != 0 {
		t.Errorf("after a discarded and a failed capture: got %v, want nothing", left)
	}
}

func TestOnlySoMuchIsInUse(t *testing.T) {
	tr := NewTracker(t.TempDir(), Version{})
	file := bytes.NewReader(make([]byte, 4*page))
	for name, ranges := range map[string][]Range{
		"one":            {{0, 5 * page}},
		"two":            {{0, 2 * page}, {2 * page, 5 * page}},
		"all there can":  {{0, 1 << 47}},
		"more than that": {{0, 1<<63 - page}},
		"overlapping":    {{0, 2 * page}, {page, 3 * page}},
		"backwards":      {{2 * page, page}},
		"negative":       {{-page, page}},
		"no page":        {{0, 17}},
	} {
		if _, err := tr.Capture(file, ranges, 4*page); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
	d, err := tr.Capture(file, []Range{{0, 4 * page}}, 4*page)
	if err != nil {
		t.Fatal(err)
	}
	d.Discard()
}

// FuzzRead gives hostile tables: they are refused or they are right.
func FuzzRead(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Add(make([]byte, 32))
	f.Add(make([]byte, 16))
	f.Fuzz(func(t *testing.T, table []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, Segment{ID: 0}.Name()), make([]byte, 2*Size), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Read(dir, table, []Segment{{0, 2}})
		if err != nil {
			return
		}
		out, err := os.Create(filepath.Join(dir, "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		_ = NewTracker(dir, v).Restore(out)
	})
}
