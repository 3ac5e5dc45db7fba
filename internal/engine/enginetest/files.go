package enginetest

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var fileCases = []testCase{
	on("WriteThenRead", testWriteRead),
	on("StatTells", testStat),
	on("ReadDirIsSorted", testReadDir),
	on("ErrorsAreThoseOfFS", testFileErrors),
	on("MkdirRemoveRename", testMkdirRemoveRename),
	on("NamesAreBytes", testRawNames),
	on("FIFOsHoldUpNothing", testFIFO),
	on("SourceFailureIsTheError", func(t *testing.T, b *box) {
		want := errors.New("the source broke")
		err := b.WriteFile(t.Context(), "/work/f", 0o644, io.MultiReader(strings.NewReader("x"), brokenReader{want}))
		if !errors.Is(err, want) {
			t.Errorf("WriteFile from a broken source: got %v, want its error", err)
		}
	}),
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

// write makes a file, with its directories.
func (b *box) write(t testing.TB, name string, perm fs.FileMode, content string) {
	t.Helper()
	if err := b.WriteFile(t.Context(), name, perm, strings.NewReader(content)); err != nil {
		t.Fatalf("write %s: %v", name, err)
	}
}

func (b *box) read(t testing.TB, name string) string {
	t.Helper()
	f, err := b.OpenFile(t.Context(), name)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return string(content)
}

func (b *box) mkdir(t testing.TB, name string) {
	t.Helper()
	if err := b.Mkdir(t.Context(), name, 0o755, true); err != nil {
		t.Fatal(err)
	}
}

func testWriteRead(t *testing.T, b *box) {
	for _, size := range []int{0, 1, 4095, 4096, 1<<20 + 7, 5 << 20} {
		want := noise(size)
		if err := b.WriteFile(t.Context(), "/work/deep/er/f", 0o600, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		if got := b.read(t, "/work/deep/er/f"); got != string(want) {
			t.Errorf("file of %d bytes: got %d back, or others", size, len(got))
		}
	}
	b.write(t, "/work/deep/er/f", 0o600, "short") // truncates
	if got := b.read(t, "/work/deep/er/f"); got != "short" {
		t.Errorf("written over: got %q, want short", got)
	}
}

func testStat(t *testing.T, b *box) {
	b.write(t, "/work/f", 0o640, "12345")
	b.output(t, "cd "+b.inside("/work")+" && ln -s f link && ln -s nowhere dangling && touch -d @1000000000 f")
	st, err := b.Stat(t.Context(), "/work/f")
	if err != nil {
		t.Fatal(err)
	}
	if st.Name() != "f" || st.Size() != 5 || st.Mode() != 0o640 || st.IsDir() || !st.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("Stat: got %s %d %v %v", st.Name(), st.Size(), st.Mode(), st.ModTime())
	}
	if uid, gid := st.Owner(); b.isolated() && (uid != 0 || gid != 0) {
		t.Errorf("owner: got %d:%d, want root", uid, gid)
	}
	if st, err := b.Stat(t.Context(), "/work/link"); err != nil || !st.Mode().IsRegular() || st.Name() != "link" {
		t.Errorf("Stat of a link: got %v, %v, want the file", st, err)
	}
	if st, err := b.Lstat(t.Context(), "/work/link"); err != nil || st.Mode().Type() != fs.ModeSymlink || st.Target() != "f" {
		t.Errorf("Lstat of a link: got %v, %v, want the link", st, err)
	}
	if to, err := b.Readlink(t.Context(), "/work/dangling"); err != nil || to != "nowhere" {
		t.Errorf("Readlink: got %q, %v, want nowhere", to, err)
	}
	if st, err := b.Stat(t.Context(), "/"); err != nil || st.Name() != "/" || !st.IsDir() {
		t.Errorf("Stat of /: got %v, %v", st, err)
	}
}

func testReadDir(t *testing.T, b *box) {
	b.output(t, "mkdir -p "+b.inside("/work/d")+" && cd "+b.inside("/work/d")+" && for i in $(seq 1000 2999); do echo > f$i; done; mkdir sub; ln -s x y")
	got, err := b.ReadDir(t.Context(), "/work/d")
	if err != nil || len(got) != 2002 {
		t.Fatalf("ReadDir: got %d, %v, want 2002", len(got), err)
	}
	for i := 1; i < len(got); i++ {
		if got[i-1].Name() >= got[i].Name() {
			t.Fatalf("ReadDir: %q before %q", got[i-1].Name(), got[i].Name())
		}
	}
	if last := got[2001]; last.Name() != "y" || last.Target() != "x" || !got[2000].IsDir() {
		t.Errorf("ReadDir: last two are %v and %v, want sub and y", got[2000], last)
	}
}

func testFileErrors(t *testing.T, b *box) {
	ctx := t.Context()
	b.write(t, "/work/f", 0o644, "x")
	_, statErr := b.Stat(ctx, "/work/none")
	_, openErr := b.OpenFile(ctx, "/work/none")
	_, dirErr := b.ReadDir(ctx, "/work/none")
	_, linkErr := b.Readlink(ctx, "/work/none")
	for what, err := range map[string]error{
		"stat": statErr, "open": openErr, "readdir": dirErr, "readlink": linkErr,
		"remove": b.Remove(ctx, "/work/none", false), "rename": b.Rename(ctx, "/work/none", "/work/x"),
		"mkdir below nothing": b.Mkdir(ctx, "/none/x", 0o755, false),
	} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: got %v, want fs.ErrNotExist", what, err)
		}
	}
	if err := b.Mkdir(ctx, "/work", 0o755, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("mkdir of a directory: got %v, want fs.ErrExist", err)
	}
	_, err := b.OpenFile(ctx, "/work")
	wantKind(t, "open of a directory", err, guest.KindIsDir)
	wantKind(t, "write to a directory", b.WriteFile(ctx, "/work", 0o644, strings.NewReader("x")), guest.KindIsDir)
	_, err = b.ReadDir(ctx, "/work/f")
	wantKind(t, "readdir of a file", err, guest.KindNotDir)
	wantKind(t, "write below a file", b.WriteFile(ctx, "/work/f/x", 0o644, strings.NewReader("x")), guest.KindNotDir)
	wantKind(t, "remove of /", b.Remove(ctx, "/", true), guest.KindInvalid)
	_, err = b.Stat(ctx, "relative")
	wantKind(t, "relative path", err, guest.KindInvalid)
	_, err = b.Stat(ctx, "/a\x00b")
	wantKind(t, "zero byte", err, guest.KindInvalid)
}

func testMkdirRemoveRename(t *testing.T, b *box) {
	ctx := t.Context()
	if err := b.Mkdir(ctx, "/work/a/b/c", 0o700, true); err != nil {
		t.Fatal(err)
	}
	if err := b.Mkdir(ctx, "/work/a/b/c", 0o700, true); err != nil {
		t.Errorf("mkdir all of what is there: got %v, want nil", err)
	}
	b.write(t, "/work/a/f", 0o644, "f")
	if err := b.Rename(ctx, "/work/a/f", "/work/a/b/g"); err != nil {
		t.Fatal(err)
	}
	if got := b.read(t, "/work/a/b/g"); got != "f" {
		t.Errorf("renamed: got %q, want f", got)
	}
	if err := b.Remove(ctx, "/work/a", false); err == nil {
		t.Error("remove of a full directory: got nil, want an error")
	}
	if err := b.Remove(ctx, "/work/a", true); err != nil {
		t.Error(err)
	}
	if err := b.Remove(ctx, "/work/a", true); err != nil {
		t.Errorf("remove all of nothing: got %v, want nil", err)
	}
}

// testRawNames uses a name that is not UTF-8.
func testRawNames(t *testing.T, b *box) {
	name := "/work/\xff\xfe raw\n"
	b.write(t, name, 0o644, "raw")
	if got := b.read(t, name); got != "raw" {
		t.Errorf("file of a raw name: got %q, want raw", got)
	}
	list, err := b.ReadDir(t.Context(), "/work")
	if err != nil || len(list) != 1 || list[0].Name() != filepath.Base(name) {
		t.Errorf("ReadDir: got %v, %v, want the raw name", list, err)
	}
}

func testFIFO(t *testing.T, b *box) {
	b.mkdir(t, "/work")
	b.output(t, "mkfifo "+b.inside("/work/fifo"))
	_, err := b.OpenFile(t.Context(), "/work/fifo")
	wantKind(t, "open of a FIFO", err, guest.KindInvalid)
	if err := b.WriteFile(t.Context(), "/work/fifo", 0o644, strings.NewReader("x")); err == nil {
		t.Error("write to a FIFO: got nil, want an error")
	}
}

// inside is where a path of the box is for its commands. The fake engine's run
// on the host.
func (b *box) inside(path string) string {
	if b.isolated() {
		return path
	}
	root := filepath.Join(b.spec.Disk, "root")
	if _, err := os.Stat(root); err != nil {
		return path
	}
	return filepath.Join(root, path)
}
