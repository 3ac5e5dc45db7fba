package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// model says what layers mean in the plainest way: a map from paths to files.
// Whiteouts of a layer are applied before its files, as the OCI image
// specification defines them.
type model struct {
	files  map[string]*file // hard links share one
	random *rand.Rand
	least  uint16 // permissions that every file has
}

func newModel(seed uint64) *model {
	return &model{
		files:  map[string]*file{"/": {mode: modeDir | 0o755}},
		random: rand.New(rand.NewPCG(seed, 1)),
	}
}

func (m *model) remove(name string) {
	delete(m.files, name)
	for other := range m.files {
		if strings.HasPrefix(other, name+"/") {
			delete(m.files, other)
		}
	}
}

// directories that exist, in an order that depends on the seed alone.
func (m *model) directories() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		if m.files[name].mode&modeType == modeDir {
			out = append(out, name)
		}
	}
	return out
}

func (m *model) pick(from []string) string { return from[m.random.IntN(len(from))] }

// layer makes up a layer, applies it to the model and returns its tar entries:
// whiteouts in between, where they may be.
func (m *model) layer() []entry {
	var whiteouts, entries []entry
	for range m.random.IntN(6) {
		whiteouts = append(whiteouts, m.whiteout())
	}
	for range 5 + m.random.IntN(60) {
		entries = append(entries, m.entry())
	}
	for _, w := range whiteouts {
		entries = slices.Insert(entries, m.random.IntN(lastPlace(entries, w)+1), w)
	}
	return entries
}

// lastPlace is where a whiteout may be at the latest: before its layer puts
// something else, a symlink perhaps, where the directory it names was.
func lastPlace(entries []entry, whiteout entry) int {
	for i, e := range entries {
		if e.Typeflag != tar.TypeDir && strings.HasPrefix(whiteout.Name, e.Name+"/") {
			return i
		}
	}
	return len(entries)
}

func (m *model) whiteout() entry {
	d := m.pick(m.directories())
	if m.random.IntN(4) == 0 {
		for name := range m.files {
			if name != d && strings.HasPrefix(name, strings.TrimSuffix(d, "/")+"/") {
				delete(m.files, name)
			}
		}
		return reg(strings.TrimPrefix(path.Join(d, ".wh..wh..opq"), "/"), "")
	}
	names := slices.Sorted(maps.Keys(m.files))
	victim := m.pick(names)
	if victim == "/" {
		victim = "/no-such"
	}
	m.remove(victim)
	return reg(strings.TrimPrefix(path.Join(path.Dir(victim), ".wh."+path.Base(victim)), "/"), "")
}

func (m *model) name() string {
	const letters = "ab-.Z\xff~"
	n := 1 + m.random.IntN(2)
	if m.random.IntN(10) == 0 {
		n = 200 + m.random.IntN(51) // a whiteout adds four
	}
	b := []byte{"abcdefg"[m.random.IntN(7)]}
	for len(b) < n {
		b = append(b, letters[m.random.IntN(len(letters))])
	}
	return string(b)
}

func (m *model) entry() entry {
	name := path.Join(m.pick(m.directories()), m.name())
	h := tar.Header{
		Name: name[1:], Mode: int64(m.random.IntN(0o10000)) | int64(m.least), Uid: m.random.IntN(1 << 17), Gid: m.random.IntN(70000),
		ModTime: time.Unix(int64(m.random.Uint32()), int64(m.random.IntN(1e9))), Format: tar.FormatPAX,
	}
	f := &file{uid: uint32(h.Uid), gid: uint32(h.Gid), mtime: h.ModTime.Unix(), nsec: uint32(h.ModTime.Nanosecond())}
	body := ""
	switch m.random.IntN(10) {
	case 0, 1, 2:
		h.Typeflag = tar.TypeDir
		f.mode = modeDir | uint16(h.Mode)
		if old := m.files[name]; old != nil && old.mode&modeType == modeDir {
			*old = *f
			return entry{Header: h}
		}
	case 3:
		h.Typeflag, h.Linkname = tar.TypeSymlink, strings.Repeat("../t", 1+m.random.IntN(1000))
		f.mode, f.content = modeLink|0o777, h.Linkname
	case 4:
		h.Typeflag = tar.TypeFifo
		f.mode = modeFIFO | uint16(h.Mode)
	case 5:
		if target := m.linkTarget(); target != "" {
			h.Typeflag, h.Linkname = tar.TypeLink, target[1:]
			f = m.files[target]
			break
		}
		fallthrough
	default:
		h.Typeflag = tar.TypeReg
		body = strings.Repeat(string(rune('a'+m.random.IntN(26))), m.random.IntN(3)*m.random.IntN(5000))
		f.mode, f.content = modeReg|uint16(h.Mode), body
	}
	if m.files[name] != f {
		m.remove(name)
	}
	m.files[name] = f
	return entry{h, body}
}

func (m *model) linkTarget() string {
	name := m.pick(slices.Sorted(maps.Keys(m.files)))
	if m.files[name].mode&modeType == modeDir {
		return ""
	}
	return name
}

// want is the model as a reader sees it.
func (m *model) want() map[string]file {
	first := make(map[*file]string)
	links := make(map[*file]uint32)
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		f := m.files[name]
		if _, seen := first[f]; !seen {
			first[f] = name
		}
		links[f]++
		if f.mode&modeType == modeDir {
			links[f]++
			if name != "/" {
				links[m.files[path.Dir(name)]]++
			}
		}
	}
	if m.files["/"] != nil {
		links[m.files["/"]] = 2
		for name, f := range m.files {
			if name != "/" && path.Dir(name) == "/" && f.mode&modeType == modeDir {
				links[m.files["/"]]++
			}
		}
	}
	out := make(map[string]file)
	for name, f := range m.files {
		c := *f
		c.nlink, c.first = links[f], first[f]
		out[name] = c
	}
	return out
}

func TestRandomLayersReadBackAsTheModelSays(t *testing.T) {
	for seed := range uint64(150) {
		m := newModel(seed)
		var layers [][]byte
		for range 1 + m.random.IntN(4) {
			layers = append(layers, layerTar(t, m.layer()...))
		}
		compare(t, seed, read(t, mustBuild(t, layers...)), m.want())
		if t.Failed() {
			return
		}
	}
}

func compare(t *testing.T, seed uint64, got, want map[string]file) {
	t.Helper()
	for name := range want {
		g, w := got[name], want[name]
		// The walk of the reader meets links in another order than a sort of
		// whole paths: compare who shares, not who is first.
		g.first, w.first = "", ""
		if !reflect.DeepEqual(g, w) {
			t.Errorf("seed %d, %.60q:\ngot  %+v\nwant %+v", seed, name, g, w)
		}
		if a, b := got[name].first, want[name].first; want[a].first != b {
			t.Errorf("seed %d: %.60q shares its inode with %.60q, want %.60q", seed, name, a, b)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("seed %d: %.60q is in the image and not in the model", seed, name)
		}
	}
}

func TestFsckAcceptsRandomImages(t *testing.T) {
	needFsck(t)
	for seed := range uint64(12) {
		m := newModel(1000 + seed)
		m.least = 0o700 // so that an ordinary user can read what is extracted
		img := mustBuild(t, layerTar(t, m.layer()...), layerTar(t, m.layer()...), layerTar(t, m.layer()...))
		out := filepath.Join(t.TempDir(), "out")
		fsck(t, "--extract="+out, "--no-preserve-owner", "--no-preserve-perms", img)
		for name, f := range m.want() {
			if f.mode&modeType != modeReg {
				continue
			}
			if b, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(b) != f.content {
				t.Errorf("seed %d: %.60q extracted by fsck.erofs: got %d bytes (%v), want %d", seed, name, len(b), err, len(f.content))
			}
		}
	}
}

// TestFsckAcceptsLargeDirectories has several blocks in a directory, and names
// of every length at the ends of blocks.
func TestFsckAcceptsLargeDirectories(t *testing.T) {
	needFsck(t)
	var es []entry
	for i := range 3000 {
		es = append(es, reg(fmt.Sprintf("d%d/%04d%s", i%7, i, strings.Repeat("n", i*31%251)), ""))
	}
	img := mustBuild(t, layerTar(t, es...))
	fsck(t, img)
	if got := len(read(t, img)); got != 3000+8 {
		t.Errorf("entries: got %d, want %d", got, 3000+8)
	}
}

// TestGNUSparse takes its layer from GNU tar, as Go cannot write sparse files.
func TestGNUSparse(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("needs GNU tar")
	}
	d := t.TempDir()
	f, err := os.Create(filepath.Join(d, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte("begin"), 1<<20)
	f.WriteAt([]byte("end"), 5<<20)
	f.Close()
	want, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		layer, err := exec.Command("tar", "-C", d, "--sparse", "--format="+format, "-cf", "-", "sparse").Output()
		if err != nil {
			t.Skipf("needs GNU tar: %v", err)
		}
		if len(layer) > 1<<20 {
			t.Errorf("%s: layer has %d bytes, so it is not sparse", format, len(layer))
		}
		if got := read(t, mustBuild(t, layer))["/sparse"].content; got != string(want) {
			t.Errorf("%s: content of a sparse file differs", format)
		}
	}
}

func FuzzAddLayer(f *testing.F) {
	m := newModel(1)
	f.Add(layerTar(f, m.layer()...), layerTar(f, m.layer()...))
	f.Add(layerTar(f, sym("a", "b"), reg("a/x", "1")), layerTar(f, reg("a/.wh.x", ""), hard("h", "b/x")))
	f.Add([]byte{}, []byte("x"))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		name, err := build(t, Options{MaxBytes: 1 << 20, MaxEntries: 500}, lower, upper)
		if err != nil {
			return
		}
		for name := range read(t, name) {
			if strings.Contains(name, "..") && path.Clean(name) != name {
				t.Errorf("path %q in the image", name)
			}
		}
	})
}

// BenchmarkAddLayer measures the flattening of 64 MiB in files of 32 KiB.
func BenchmarkAddLayer(b *testing.B) {
	var es []entry
	body := strings.Repeat("content!", 4096)
	for i := range 2048 {
		es = append(es, reg(fmt.Sprintf("d%d/f%d", i%32, i), body))
	}
	layer := layerTar(b, es...)
	f, err := os.Create(filepath.Join(b.TempDir(), "image"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	b.SetBytes(int64(len(layer)))
	for b.Loop() {
		if err := f.Truncate(0); err != nil {
			b.Fatal(err)
		}
		w := NewWriter(f, Options{})
		if err := w.AddLayer(bytes.NewReader(layer)); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
