package gvisor

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor/internal/blocks"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// What a manifest names stays, also when a save was told that it could not write
// one: the error may have come after it was replaced.
func TestWhatTheManifestNamesIsNotRemoved(t *testing.T) {
	l, err := openLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, written := range []bool{false, true} {
		n, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if written {
			b, err := json.Marshal(n.manifest)
			if err != nil {
				t.Fatal(err)
			}
			if err := hostos.WriteFileAtomic(filepath.Join(l.disk, manifestName), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if n.kept = n.named(); n.kept != written {
			t.Errorf("named by the manifest: got %v, want %v", n.kept, written)
		}
		n.close()
		if _, err := os.Stat(n.dir); (err == nil) != written {
			t.Errorf("directory of a layer that the manifest names (%v): %v", written, err)
		}
	}
}

// What a sentry writes is bounded before it is read: a guest may have taken it
// over, and its owner has no limit of memory.
func TestWhatTheSentryWritesIsBounded(t *testing.T) {
	l, err := openLayer(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := engine.Spec{DiskSize: 1 << 30, Memory: 256 << 20}
	for i, want := range map[int]string{
		checkpointFile: "lists its contents", metaFile: "lists its contents", treeFile: "too many files",
	} {
		n, err := l.next()
		if err != nil {
			t.Fatal(err)
		}
		if err := n.measure(s); err != nil {
			t.Errorf("empty files: %v", err)
		}
		if err := n.files[i].Truncate(1 << 40); err != nil {
			t.Fatal(err)
		}
		if err := n.measure(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s of 1 TiB: got %v, want %q", n.files[i].Name(), err, want)
		}
		n.close()
	}
}

// treeOf is a saved tree of one file with these parts of the upper file.
func treeOf(tb testing.TB, parts ...blocks.Range) []byte {
	tb.Helper()
	var out, content bytes.Buffer
	content.Write(make([]byte, treeSizeBytes))
	for _, r := range parts {
		_ = binary.Write(&content, binary.LittleEndian, []int64{0, r.End - r.Start, r.Start})
	}
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "f", Size: int64(content.Len())}); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(content.Bytes()); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// read reads a saved tree of these bytes.
func read(tb testing.TB, b []byte) (tree, error) {
	tb.Helper()
	f, err := memFile("tree", b)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	return readTree(f, int64(len(b)), maphash.MakeSeed())
}

func TestPartsThatFilesHave(t *testing.T) {
	got, err := read(t, treeOf(t, blocks.Range{Start: 40, End: 50}, blocks.Range{Start: 0, End: 10}, blocks.Range{Start: 10, End: 30}))
	if want := []blocks.Range{{Start: 0, End: 30}, {Start: 40, End: 50}}; err != nil || !slices.Equal(got.used, want) {
		t.Fatalf("parts: got %v, %v, want %v", got.used, err, want)
	}
	in := []blocks.Range{{Start: 5, End: 12}, {Start: 12, End: 20}, {Start: 25, End: 45}, {Start: 49, End: 100}}
	want := []blocks.Range{{Start: 5, End: 12}, {Start: 12, End: 20}, {Start: 25, End: 30}, {Start: 40, End: 45}, {Start: 49, End: 50}}
	if got := common(in, got.used); !slices.Equal(got, want) {
		t.Errorf("in common with %v: got %v, want %v", in, got, want)
	}
}

// TestHostileTrees changes each byte of an entry, and cuts it everywhere: what
// is read of one can be worked with.
func TestHostileTrees(t *testing.T) {
	whole := treeOf(t, blocks.Range{Start: 0, End: 10}, blocks.Range{Start: 20, End: 30})
	judge := func(b []byte) {
		t.Helper()
		got, err := read(t, b)
		if err != nil {
			return
		}
		end := int64(-1)
		for _, r := range got.used {
			if r.Start <= end || r.End < r.Start {
				t.Fatalf("parts: got %v, want them ascending", got.used)
			}
			end = r.End
		}
	}
	for i := range tarBlock + treeSizeBytes + 2*treePartBytes {
		judge(whole[:i])
		for _, c := range []byte{0, '7', 0x7f, 0xff, '-', 'x'} {
			b := slices.Clone(whole)
			b[i] = c
			judge(b)
		}
	}
	for _, parts := range [][]blocks.Range{{{Start: 10, End: -10}}, {{Start: -1, End: 5}}, {{Start: 1 << 62, End: -1 << 62}}} {
		if _, err := read(t, treeOf(t, parts...)); err == nil {
			t.Errorf("parts %v: got nil, want an error", parts)
		}
	}
}
