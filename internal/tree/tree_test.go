package tree

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// snapshot lists a tree: one line a file with all that a copy keeps.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	inos := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		st, err := os.Lstat(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fmt.Fprintf(&b, "%s %v", rel, st.Mode())
		switch {
		case st.Mode().IsRegular():
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x %d", len(data), bytes.Count(data, []byte{0}), st.ModTime().UnixNano())
			if sys := st.Sys().(*syscall.Stat_t); sys.Nlink > 1 {
				if inos[sys.Ino] == "" {
					inos[sys.Ino] = rel
				}
				fmt.Fprintf(&b, " =%s", inos[sys.Ino])
			}
		case st.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(p)
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// randomTree fills dir with what a user may have.
func randomTree(t *testing.T, dir string, r *rand.Rand, depth int) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range r.IntN(6) + 1 {
		p := filepath.Join(dir, fmt.Sprintf("n%d %c", i, 'a'+rune(r.IntN(500))))
		switch k := r.IntN(6); {
		case k == 0 && depth > 0:
			check(os.Mkdir(p, 0o755))
			randomTree(t, p, r, depth-1)
			check(os.Chmod(p, fs.FileMode(0o500|r.IntN(0o100))))
		case k == 1:
			check(os.Symlink([]string{"nowhere", "/etc/passwd", "../..", "."}[r.IntN(4)], p))
		case k == 2:
			check(os.WriteFile(p, nil, 0o600))
			check(os.Link(p, p+".link"))
		case k == 3:
			f, err := os.Create(p)
			check(err)
			check(f.Truncate(1 << 20))
			_, err = f.WriteAt([]byte("end"), 1<<20)
			check(err)
			check(f.Close())
		default:
			check(os.WriteFile(p, bytes.Repeat([]byte{byte(i), 0}, r.IntN(100_000)), 0o600))
			check(os.Chmod(p, fs.FileMode(0o400|r.IntN(0o1000))))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(20) {
		src, dst := t.TempDir(), t.TempDir()
		randomTree(t, src, rand.New(rand.NewPCG(seed, 1)), 3)
		var b bytes.Buffer
		if err := Pack(&b, src, PackOptions{Name: "."}); err != nil {
			t.Fatalf("seed %d: Pack: %v", seed, err)
		}
		for range 2 { // the second time over what is there
			if err := unpack(t, dst, bytes.NewReader(b.Bytes()), UnpackOptions{}); err != nil {
				t.Fatalf("seed %d: Unpack: %v", seed, err)
			}
			if got, want := snapshot(t, dst), snapshot(t, src); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
			}
		}
	}
}

func unpack(t *testing.T, dir string, r io.Reader, o UnpackOptions) error {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return Unpack(r, root, o)
}

func tarOf(t *testing.T, hs ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		h.Mode = 0o6755
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	return &b
}

func TestHostileStreamsAreRefused(t *testing.T) {
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	file := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name, Size: 1} }
	for _, tt := range []struct {
		name    string
		entries []tar.Header
	}{
		{"absolute name", []tar.Header{file("/canary")}},
		{"parent", []tar.Header{file("../canary")}},
		{"parent inside", []tar.Header{file("a/../../canary")}},
		{"through a link", []tar.Header{link("a", ".."), file("a/canary")}},
		{"through an absolute link", []tar.Header{link("a", "/"), file("a/canary")}},
		{"through two links", []tar.Header{link("a", "b"), link("b", ".."), file("a/canary")}},
		{"hard link out", []tar.Header{{Typeflag: tar.TypeLink, Name: "a", Linkname: "../canary"}}},
		{"hard link through a link", []tar.Header{link("d", ".."), {Typeflag: tar.TypeLink, Name: "a", Linkname: "d/canary"}}},
		{"device", []tar.Header{{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3}}},
		{"pipe", []tar.Header{{Typeflag: tar.TypeFifo, Name: "p"}}},
		{"too many", []tar.Header{file("a"), file("b"), file("c"), file("d")}},
		{"too large", []tar.Header{{Typeflag: tar.TypeReg, Name: "a", Size: 101}}},
		{"top is a file", []tar.Header{file(".")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			outer := t.TempDir()
			canary, dst := filepath.Join(outer, "canary"), filepath.Join(outer, "dst")
			if err := os.WriteFile(canary, []byte("safe"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dst, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unpack(t, dst, tarOf(t, tt.entries...), UnpackOptions{MaxEntries: 3, MaxBytes: 100}); err == nil {
				t.Error("got nil, want an error")
			}
			if got, _ := os.ReadFile(canary); string(got) != "safe" {
				t.Errorf("file outside: got %q, want %q", got, "safe")
			}
			if st, _ := os.Lstat(canary); st.Sys().(*syscall.Stat_t).Nlink != 1 {
				t.Error("file outside has a second link")
			}
		})
	}
}

func TestUnpackDropsSetuid(t *testing.T) {
	dir := t.TempDir()
	if err := unpack(t, dir, tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "su", Size: 1}), UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(filepath.Join(dir, "su")); st.Mode() != 0o755 {
		t.Errorf("mode: got %v, want %v", st.Mode(), fs.FileMode(0o755))
	}
}

func TestNoOverwriteKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	entry := tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 3}
	if err := unpack(t, dir, tarOf(t, entry), UnpackOptions{NoOverwrite: true}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Unpack: got %v, want ErrExist", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("content: got %q, want %q", got, "old")
	}
}

func TestRename(t *testing.T) {
	dir := t.TempDir()
	err := unpack(t, dir, tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "a", Size: 3}), UnpackOptions{Rename: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "b")); string(got) != "xxx" {
		t.Errorf("content: got %q, want %q", got, "xxx")
	}
}

func TestHolesStayHoles(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "f"), t.TempDir()
	if err := os.WriteFile(src, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(src, 64<<20); err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(Pack(w, src, PackOptions{Name: "f"})) }()
	if err := unpack(t, dst, r, UnpackOptions{}); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dst, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if used := st.Sys().(*syscall.Stat_t).Blocks * 512; st.Size() != 64<<20 || used > 1<<20 {
		t.Errorf("got %d bytes using %d, want %d using little", st.Size(), used, 64<<20)
	}
}

func FuzzUnpack(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: ".."})
	_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "a/b", Size: 2})
	_, _ = w.Write([]byte("hi"))
	w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		outer := t.TempDir()
		dst := filepath.Join(outer, "dst")
		if err := os.Mkdir(dst, 0o700); err != nil {
			t.Fatal(err)
		}
		_ = unpack(t, dst, bytes.NewReader(data), UnpackOptions{MaxEntries: 100, MaxBytes: 1 << 20})
		if e, _ := os.ReadDir(outer); len(e) != 1 {
			t.Errorf("files beside the destination: got %d, want 0", len(e)-1)
		}
	})
}
