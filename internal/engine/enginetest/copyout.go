package enginetest

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var copyOutCases = []testCase{
	on("RandomTreesComeBack", testRandomTrees),
	on("NamesTheTop", testCopyOutNames),
	on("SkipsWhatIsNoFile", testCopyOutSpecial),
	on("FollowsLinksOnRequest", testCopyOutFollow),
	on("KeepsHardLinks", testCopyOutHardLinks),
	on("ChangingFilesKeepTheStreamWhole", testCopyOutChanging),
	on("CloseEndsIt", testCopyOutClose),
	on("MissingIsNotFound", func(t *testing.T, b *box) {
		_, err := b.CopyOut(t.Context(), guest.CopyOut{Path: "/no/such"})
		wantKind(t, "copy of nothing", err, guest.KindNotFound)
	}),
	on("LargeFilesAreExact", testCopyLarge),
}

// out copies out and lists what comes: like [box.tree], in the order of names.
func (b *box) out(t *testing.T, o guest.CopyOut) ([]string, *guest.File) {
	t.Helper()
	f, err := b.CopyOut(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list := untar(t, f)
	if _, err := io.Copy(io.Discard, f); err != nil {
		t.Fatal(err)
	}
	return list, f
}

// untar lists the entries of a stream, sorted, with their contents.
func untar(t *testing.T, r io.Reader) []string {
	t.Helper()
	return entries(t, r, func(h *tar.Header, body io.Reader) string {
		switch h.Typeflag {
		case tar.TypeDir:
			return h.Name
		case tar.TypeSymlink:
			return h.Name + "->" + h.Linkname
		case tar.TypeLink:
			return h.Name + "=>" + h.Linkname
		case tar.TypeReg:
			b, err := io.ReadAll(body)
			if err != nil {
				t.Fatal(err)
			}
			return h.Name + "=" + string(b)
		}
		t.Errorf("entry %q has type %q", h.Name, h.Typeflag)
		return h.Name
	})
}

// entries describes each entry of a stream, sorted.
func entries(t *testing.T, r io.Reader, describe func(h *tar.Header, body io.Reader) string) (list []string) {
	t.Helper()
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			slices.Sort(list)
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, describe(h, tr))
	}
}

// testRandomTrees copies trees in and out again and compares every header.
func testRandomTrees(t *testing.T, b *box) {
	for seed := range uint64(8) {
		in := randomTree(rand.New(rand.NewPCG(seed, 1)))
		if err := b.CopyIn(t.Context(), guest.CopyIn{Path: fmt.Sprintf("/work/%d/", seed)}, bytes.NewReader(tarOf(t, in...))); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		f, err := b.CopyOut(t.Context(), guest.CopyOut{Path: fmt.Sprintf("/work/%d", seed), Contents: true})
		if err != nil {
			t.Fatal(err)
		}
		got, want := headers(t, f), headers(t, bytes.NewReader(tarOf(t, in...)))
		if _, err := io.Copy(io.Discard, f); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		f.Close()
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: got\n%s\nwant\n%s", seed, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func randomTree(r *rand.Rand) []e {
	all := []e{{name: "top", typ: tar.TypeDir, mode: 0o755}}
	dirs := []string{"top"}
	for i := range 60 {
		name := fmt.Sprintf("%s/%c%d%s", dirs[r.IntN(len(dirs))], 'a'+r.IntN(26), i, strings.Repeat("é x", r.IntN(20)))
		switch k := r.IntN(10); {
		case k < 2:
			all = append(all, e{name: name, typ: tar.TypeDir, mode: 0o700 | r.Int64N(0o100)})
			dirs = append(dirs, name)
		case k < 4:
			all = append(all, e{name: name, typ: tar.TypeSymlink, link: fmt.Sprint("../", r.IntN(9)), mode: 0o777})
		default:
			body := make([]byte, r.IntN(10)*r.IntN(70000))
			if r.IntN(2) == 0 {
				copy(body, noise(len(body)))
			}
			all = append(all, e{name: name, body: string(body), mode: 0o400 | r.Int64N(0o400)})
		}
	}
	return all
}

// headers lists the entries of a stream, sorted, with all that must survive. A
// link's own time and mode are the file system's.
func headers(t *testing.T, r io.Reader) []string {
	t.Helper()
	return entries(t, r, func(h *tar.Header, body io.Reader) string {
		sum := newCounter()
		io.Copy(sum, body)
		line := fmt.Sprintf("%s %c %q %x", strings.TrimSuffix(h.Name, "/"), h.Typeflag, h.Linkname, sum.hash.Sum(nil))
		if h.Typeflag != tar.TypeSymlink {
			line += fmt.Sprintf(" %o %d", h.Mode, h.ModTime.UnixNano())
		}
		return line
	})
}

func testCopyOutNames(t *testing.T, b *box) {
	b.write(t, "/work/d/f", 0o644, "1")
	b.write(t, "/work/d/sub/g", 0o644, "2")
	b.output(t, "ln -s d "+b.inside("/work/l"))
	for _, tt := range []struct {
		o    guest.CopyOut
		want string
	}{
		{guest.CopyOut{Path: "/work/d"}, "d/ d/f=1 d/sub/ d/sub/g=2"},
		{guest.CopyOut{Path: "/work/d/"}, "d/ d/f=1 d/sub/ d/sub/g=2"},
		{guest.CopyOut{Path: "/work/d", Contents: true}, "f=1 sub/ sub/g=2"},
		{guest.CopyOut{Path: "/work/d/f"}, "f=1"},
		{guest.CopyOut{Path: "/work/d/f", Contents: true}, "f=1"},
		{guest.CopyOut{Path: "/work/l"}, "l->d"},
		{guest.CopyOut{Path: "/work/l", FollowLinks: true}, "l/ l/f=1 l/sub/ l/sub/g=2"},
	} {
		if got, _ := b.out(t, tt.o); strings.Join(got, " ") != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.o, got, tt.want)
		}
	}
	f, err := b.CopyOut(t.Context(), guest.CopyOut{Path: "/work/d/f"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Name() != "f" || st.Size() != 1 {
		t.Errorf("Stat of the top: got %v, %v, want f of 1 byte", st, err)
	}
}

func testCopyOutSpecial(t *testing.T, b *box) {
	b.write(t, "/work/d/f", 0o644, "1")
	b.output(t, "cd "+b.inside("/work/d")+" && mkfifo pipe1 pipe2 && ln -s /no/where dangling")
	got, f := b.out(t, guest.CopyOut{Path: "/work/d"})
	if want := "d/ d/dangling->/no/where d/f=1"; strings.Join(got, " ") != want {
		t.Errorf("directory with FIFOs: got %q, want %q", got, want)
	}
	skipped := f.Skipped()
	slices.Sort(skipped)
	if !slices.Equal(skipped, []string{"d/pipe1", "d/pipe2"}) {
		t.Errorf("skipped: got %q, want both FIFOs", skipped)
	}
}

func testCopyOutFollow(t *testing.T, b *box) {
	b.write(t, "/work/other/f", 0o644, "1")
	b.write(t, "/work/d/g", 0o644, "2")
	b.output(t, "cd "+b.inside("/work/d")+" && ln -s ../other in && ln -s g file && ln -s nowhere dangling && ln -s ../d loop")
	got, f := b.out(t, guest.CopyOut{Path: "/work/d", FollowLinks: true})
	if want := "d/ d/dangling->nowhere d/file=2 d/g=2 d/in/ d/in/f=1"; strings.Join(got, " ") != want {
		t.Errorf("links followed: got %q, want %q", got, want)
	}
	if !slices.Equal(f.Skipped(), []string{"d/loop"}) {
		t.Errorf("skipped: got %q, want the loop", f.Skipped())
	}
}

func testCopyOutHardLinks(t *testing.T, b *box) {
	b.write(t, "/work/d/a", 0o644, "1")
	b.output(t, "cd "+b.inside("/work/d")+" && ln a b")
	got, _ := b.out(t, guest.CopyOut{Path: "/work/d"})
	text := strings.Join(got, " ")
	if text != "d/ d/a=1 d/b=>d/a" && text != "d/ d/a=>d/b d/b=1" {
		t.Errorf("two names of one file: got %q", got)
	}
}

// testCopyOutChanging copies a file while it grows and shrinks.
func testCopyOutChanging(t *testing.T, b *box) {
	b.write(t, "/work/d/before", 0o644, "1")
	b.write(t, "/work/d/f", 0o644, strings.Repeat("x", 8<<20))
	c := sh(": > stop; rm stop; while [ ! -e stop ]; do : > d/f; head -c 3000000 /dev/zero > d/f; head -c 8000000 /dev/zero >> d/f; done")
	c.Dir = "/work"
	b.begin(t, c)
	changed := 0
	for range 30 {
		f, err := b.CopyOut(t.Context(), guest.CopyOut{Path: "/work/d"})
		if err != nil {
			t.Fatal(err)
		}
		tr := tar.NewReader(f)
		n := 0
		for {
			if _, err := tr.Next(); err != nil {
				if err != io.EOF {
					t.Fatalf("stream of a changing file: %v", err)
				}
				break
			}
			if _, err := io.Copy(io.Discard, tr); err != nil {
				t.Fatalf("stream of a changing file: %v", err)
			}
			n++
		}
		if n != 3 {
			t.Errorf("stream of a changing file: got %d entries, want 3", n)
		}
		_, err = io.Copy(io.Discard, f)
		var refused *guest.Error
		if errors.As(err, &refused) && strings.Contains(err.Error(), "d/f changed") {
			changed++
		} else if err != nil {
			t.Errorf("end of a stream of a changing file: got %v", err)
		}
		f.Close()
	}
	b.write(t, "/work/stop", 0o644, "")
	if changed == 0 {
		t.Error("30 copies of a changing file: none says so at its end")
	}
}

func testCopyOutClose(t *testing.T, b *box) {
	b.write(t, "/work/big", 0o644, strings.Repeat("x", 32<<20))
	for range 20 {
		f, err := b.CopyOut(t.Context(), guest.CopyOut{Path: "/work/big"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(f, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Errorf("Close in the middle: got %v, want nil", err)
		}
	}
	if _, err := b.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func testCopyLarge(t *testing.T, b *box) {
	body := strings.Repeat(string(noise(1<<20)), 64)
	if err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/work/big"}, bytes.NewReader(tarOf(t, e{name: "f", body: body}))); err != nil {
		t.Fatal(err)
	}
	f, err := b.CopyOut(t.Context(), guest.CopyOut{Path: "/work/big"})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tr := tar.NewReader(f)
	if _, err := tr.Next(); err != nil {
		t.Fatal(err)
	}
	got, want := newCounter(), newCounter()
	io.Copy(got, tr)
	io.WriteString(want, body)
	if got.n != want.n || !bytes.Equal(got.hash.Sum(nil), want.hash.Sum(nil)) {
		t.Errorf("64 MiB there and back: got %d bytes, or others", got.n)
	}
}
