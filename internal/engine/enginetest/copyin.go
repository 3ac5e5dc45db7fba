package enginetest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var copyInCases = []testCase{
	on("GoesWhereDockerPutsIt", testCopyInPlaces),
	on("KeepsWhatTarSays", testCopyInMetadata),
	on("NoOverwriteChangesNothing", testNoOverwrite),
	on("ReplacesFilesAndMergesDirectories", testReplace),
	on("HostileStreamsAreRefused", testHostileTars),
	on("BrokenStreamsAreRefused", testBrokenTars),
	on("ZerosBecomeHoles", testHoles),
	on("FollowsTheBoxesOwnLinks", testCopyInLinks),
	with(Users, "BelongsToTheUser", testCopyInUser),
}

// e is one tar entry of a test.
type e struct {
	name string
	typ  byte // 0: file
	body string
	link string
	mode int64 // 0: 0644, directories 0755
}

func tarOf(t testing.TB, entries ...e) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, x := range entries {
		h := &tar.Header{
			Name: x.name, Typeflag: x.typ, Linkname: x.link, Mode: x.mode, Size: int64(len(x.body)),
			ModTime: time.Unix(1e9, 0), Uid: 1234, Gid: 1234,
		}
		if x.typ == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = map[bool]int64{true: 0o755, false: 0o644}[x.typ == tar.TypeDir]
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, x.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// tree lists what is below a directory of the box: paths with a slash for
// directories, "=content" for files and "->target" for links.
func (b *box) tree(t testing.TB, dir string) string {
	t.Helper()
	var all []string
	list, err := b.ReadDir(t.Context(), dir)
	if err != nil {
		return kindText(err)
	}
	for _, st := range list {
		path := strings.TrimSuffix(dir, "/") + "/" + st.Name()
		switch st.Mode().Type() {
		case fs.ModeDir:
			all = append(all, path+"/")
			if below := b.tree(t, path); below != "" {
				all = append(all, below)
			}
		case fs.ModeSymlink:
			all = append(all, path+"->"+st.Target())
		default:
			all = append(all, path+"="+b.read(t, path))
		}
	}
	return strings.Join(all, " ")
}

func kindText(err error) string { return string(kindOf(err)) }

func testCopyInPlaces(t *testing.T, b *box) {
	file := []e{{name: "f", body: "1"}}
	dir := []e{{name: "d", typ: tar.TypeDir}, {name: "d/x", body: "2"}}
	contents := []e{{name: "./", typ: tar.TypeDir}, {name: "./x", body: "3"}}
	for i, tt := range []struct {
		name    string
		entries []e
		path    string // below the case's directory, in which dir/ and file exist
		top     bool
		want    string // below the case's directory, beside those
	}{
		{"file to a new name", file, "new", false, "new=1"},
		{"file to a new name, parents missing", file, "a/b/new", false, "a/ a/b/ a/b/new=1"},
		{"file to a file", file, "file", false, "file=1"},
		{"file to a directory", file, "dir", false, "dir/f=1"},
		{"file to a new directory", file, "new/", false, "new/ new/f=1"},
		{"link to a new name", []e{{name: "l", typ: tar.TypeSymlink, link: "to"}}, "new", false, "new->to"},
		{"directory to a directory", dir, "dir", false, "dir/d/ dir/d/x=2"},
		{"directory to a new name", dir, "new", false, "new/ new/d/ new/d/x=2"},
		{"directory to a new name, as itself", dir, "new", true, "new/ new/x=2"},
		{"directory to a directory, as itself", dir, "dir", true, "dir/d/ dir/d/x=2"},
		{"contents to a directory", contents, "dir", false, "dir/x=3"},
		{"contents to a new name", contents, "new", false, "new/ new/x=3"},
		{"several files to a new name", []e{{name: "f", body: "1"}, {name: "g", body: "4"}}, "new", false, "new/ new/f=1 new/g=4"},
		{"file below directories that have no entry", []e{{name: "p/q/f", body: "5"}}, "new", false, "new/ new/p/ new/p/q/ new/p/q/f=5"},
		{"nothing", nil, "new", false, ""},
		{"nothing to a new directory", nil, "new/", false, "new/"},
	} {
		base := fmt.Sprintf("/work/%d/", i)
		b.mkdir(t, base+"dir")
		b.write(t, base+"file", 0o600, "old")
		in := guest.CopyIn{Path: base + tt.path, TopAsPath: tt.top}
		if err := b.CopyIn(t.Context(), in, bytes.NewReader(tarOf(t, tt.entries...))); err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		got := " " + strings.ReplaceAll(b.tree(t, base), base, "") + " "
		got = strings.Replace(strings.Replace(got, " dir/ ", " ", 1), " file=old ", " ", 1)
		if got = strings.TrimSpace(got); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/work/0/file"}, bytes.NewReader(tarOf(t, dir...)))
	wantKind(t, "directory to a file", err, guest.KindNotDir)
}

func testCopyInMetadata(t *testing.T, b *box) {
	in := tarOf(t,
		e{name: "d", typ: tar.TypeDir, mode: 0o2750},
		e{name: "d/ro", typ: tar.TypeDir, mode: 0o555},
		e{name: "d/ro/f", body: "x", mode: 0o444},
		e{name: "d/suid", body: "#!/bin/sh\n", mode: 0o4755},
		e{name: "d/open", body: "x", mode: 0o666},
		e{name: "d/hard", typ: tar.TypeLink, link: "d/open"},
		e{name: "d/dangling", typ: tar.TypeSymlink, link: "/no/where"},
		e{name: "d/empty", typ: tar.TypeDir, mode: 0o1777},
	)
	if err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/work/"}, bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{
		"d": fs.ModeDir | fs.ModeSetgid | 0o750, "d/ro": fs.ModeDir | 0o555, "d/ro/f": 0o444, "d/suid": fs.ModeSetuid | 0o755,
		"d/open": 0o666, "d/hard": 0o666, "d/empty": fs.ModeDir | fs.ModeSticky | 0o777,
	} {
		st, err := b.Lstat(t.Context(), "/work/"+name)
		if err != nil || st.Mode() != want || !st.ModTime().Equal(time.Unix(1e9, 0)) {
			t.Errorf("%s: got %v %v, %v, want %v of 2001", name, st.Mode(), st.ModTime(), err, want)
		}
		if uid, _ := st.Owner(); uid == 1234 {
			t.Errorf("%s: belongs to the tar's user, want the box's root", name)
		}
	}
	if got := b.output(t, "stat -c %h "+b.inside("/work/d/hard")); got != "2" {
		t.Errorf("hard link: got %s names, want 2", got)
	}
	if st, err := b.Lstat(t.Context(), "/work/d/dangling"); err != nil || st.Target() != "/no/where" {
		t.Errorf("dangling link: got %v, %v", st, err)
	}
}

func testNoOverwrite(t *testing.T, b *box) {
	b.write(t, "/work/d/f", 0o600, "old")
	b.output(t, "ln -s f "+b.inside("/work/d/l"))
	for name, tt := range map[string]struct {
		path    string
		entries []e
	}{
		"file in a directory": {"/work/d", []e{{name: "f", body: "new"}}},
		"file as itself":      {"/work/d/f", []e{{name: "f", body: "new"}}},
		"link":                {"/work/d", []e{{name: "l", typ: tar.TypeSymlink, link: "new"}}},
		"file over a link":    {"/work/d", []e{{name: "l", body: "new"}}},
		"directory":           {"/work/", []e{{name: "d", typ: tar.TypeDir}, {name: "d/f", body: "new"}}},
		"hard link":           {"/work/d", []e{{name: "g", body: "x"}, {name: "f", typ: tar.TypeLink, link: "g"}}},
	} {
		b.Remove(t.Context(), "/work/d/g", true)
		err := b.CopyIn(t.Context(), guest.CopyIn{Path: tt.path, NoOverwrite: true}, bytes.NewReader(tarOf(t, tt.entries...)))
		wantKind(t, name, err, guest.KindExists)
		b.Remove(t.Context(), "/work/d/g", true)
		if got := b.tree(t, "/work/d"); got != "/work/d/f=old /work/d/l->f" {
			t.Errorf("%s: got %q, want what was there", name, got)
		}
	}
	in := guest.CopyIn{Path: "/work/d/", NoOverwrite: true}
	if err := b.CopyIn(t.Context(), in, bytes.NewReader(tarOf(t, e{name: "n", body: "new"}))); err != nil {
		t.Errorf("a new file: got %v, want nil", err)
	}
}

func testReplace(t *testing.T, b *box) {
	b.write(t, "/work/d/keep", 0o644, "kept")
	b.write(t, "/work/d/f", 0o644, "old")
	b.write(t, "/work/victim", 0o644, "unharmed")
	b.output(t, "cd "+b.inside("/work/d")+" && ln -s ../victim l && chmod 711 .")
	in := tarOf(t, e{name: "d", typ: tar.TypeDir, mode: 0o777}, e{name: "d/f", body: "new"}, e{name: "d/l", body: "file"})
	if err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/work"}, bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	want := "/work/d/ /work/d/f=new /work/d/keep=kept /work/d/l=file /work/victim=unharmed"
	if got := b.tree(t, "/work"); got != want {
		t.Errorf("merged: got %q, want %q", got, want)
	}
	if st, _ := b.Stat(t.Context(), "/work/d"); st.Mode().Perm() != 0o711 {
		t.Errorf("mode of a directory that was there: got %v, want its own 0711", st.Mode())
	}
	err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/"}, bytes.NewReader(tarOf(t, e{name: "work", body: "x"}, e{name: "y"})))
	wantKind(t, "file over a directory", err, guest.KindIsDir)
}

func testHostileTars(t *testing.T, b *box) {
	b.write(t, "/victim/f", 0o644, "unharmed")
	for name, entries := range map[string][]e{
		"absolute name":             {{name: "/victim/f", body: "x"}},
		"dot dot":                   {{name: "../victim/f", body: "x"}},
		"dot dot inside":            {{name: "a/../../victim/f", body: "x"}},
		"through a link":            {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "l/f", body: "x"}},
		"through an absolute link":  {{name: "l", typ: tar.TypeSymlink, link: "/victim"}, {name: "l/f", body: "x"}},
		"through two links":         {{name: "a", typ: tar.TypeSymlink, link: ".."}, {name: "b", typ: tar.TypeSymlink, link: "a/victim"}, {name: "b/f", body: "x"}},
		"directory through a link":  {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "l/d", typ: tar.TypeDir}},
		"below a link":              {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "l/sub/f", body: "x"}},
		"link to the root":          {{name: "l", typ: tar.TypeSymlink, link: "/"}, {name: "l/victim/f", body: "x"}},
		"link through the process":  {{name: "l", typ: tar.TypeSymlink, link: "/proc/self/root/victim"}, {name: "l/f", body: "x"}},
		"link as a directory":       {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "l", typ: tar.TypeDir, mode: 0o700}},
		"hard link out":             {{name: "a", body: "x"}, {name: "h", typ: tar.TypeLink, link: "../victim/f"}},
		"absolute hard link":        {{name: "a", body: "x"}, {name: "h", typ: tar.TypeLink, link: "/victim/f"}},
		"hard link through a link":  {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "h", typ: tar.TypeLink, link: "l/f"}},
		"link through a link":       {{name: "l", typ: tar.TypeSymlink, link: "../victim"}, {name: "l/n", typ: tar.TypeSymlink, link: "x"}},
		"FIFO":                      {{name: "fifo", typ: tar.TypeFifo}},
		"device":                    {{name: "dev", typ: tar.TypeChar}},
		"the destination as a file": {{name: "a", body: "x"}, {name: ".", body: "x"}},
	} {
		b.Remove(t.Context(), "/dst", true)
		b.mkdir(t, "/dst")
		err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/dst"}, bytes.NewReader(tarOf(t, entries...)))
		last := entries[len(entries)-1].name
		switch {
		case err == nil:
			t.Errorf("%s: got nil, want a refusal", name)
		case !strings.Contains(err.Error(), last):
			t.Errorf("%s: got %q, want it to name %q", name, err, last)
		}
		if got := b.tree(t, "/victim"); got != "/victim/f=unharmed" {
			t.Fatalf("%s: the victim is now %q", name, got)
		}
	}
	top := []e{{name: "d", typ: tar.TypeDir}, {name: "other/f", body: "x"}}
	err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/new", TopAsPath: true}, bytes.NewReader(tarOf(t, top...)))
	wantKind(t, "second top directory", err, guest.KindInvalid)
}

func testBrokenTars(t *testing.T, b *box) {
	whole := tarOf(t, e{name: "a", body: strings.Repeat("x", 5000)}, e{name: "b", body: "y"})
	for name, in := range map[string][]byte{
		"no tar":            []byte(strings.Repeat("this is no tar ", 100)),
		"cut in a header":   whole[:100],
		"cut in a file":     whole[:2000],
		"damaged checksum":  append([]byte{whole[0] + 1}, whole[1:]...),
		"cut in the second": whole[:6000],
	} {
		b.Remove(t.Context(), "/dst", true)
		err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/dst/new"}, bytes.NewReader(in))
		wantKind(t, name, err, guest.KindInvalid)
		if got := b.tree(t, "/dst"); strings.Contains(got, ".boxlite") {
			t.Errorf("%s: leaves %q", name, got)
		}
	}
}

func testHoles(t *testing.T, b *box) {
	body := strings.Repeat("x", 100) + strings.Repeat("\x00", 20<<20) + "end" + strings.Repeat("\x00", 10<<20)
	b.mkdir(t, "/work")
	before := b.used(t)
	if err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/work/sparse"}, bytes.NewReader(tarOf(t, e{name: "f", body: body}))); err != nil {
		t.Fatal(err)
	}
	if got := b.read(t, "/work/sparse"); got != body {
		t.Errorf("file with holes: got %d bytes, want %d, or others", len(got), len(body))
	}
	if used := b.used(t) - before; used > 4<<20 {
		t.Errorf("30 MiB of zeros take %d bytes, want holes", used)
	}
}

// used is how much of its disk the box uses, or on a host's disk, which is busy,
// the one file. gVisor tells a file's size as its blocks.
func (b *box) used(t *testing.T) (bytes int64) {
	t.Helper()
	if b.isolated() {
		fmt.Sscan(b.output(t, "df -k /work | { read -r head; read -r dev all used rest; echo $used; }"), &bytes)
		return bytes << 10
	}
	fmt.Sscan(b.output(t, "stat -c %b "+b.inside("/work/sparse")+" || true"), &bytes)
	return bytes * 512
}

func testCopyInLinks(t *testing.T, b *box) {
	b.write(t, "/work/real/f", 0o644, "old")
	b.output(t, "cd "+b.inside("/work")+" && ln -s real dir && ln -s real/f file && ln -s real/new dangling")
	one := tarOf(t, e{name: "f", body: "new"})
	for _, path := range []string{"/work/dir", "/work/file", "/work/dangling"} {
		if err := b.CopyIn(t.Context(), guest.CopyIn{Path: path}, bytes.NewReader(one)); err != nil {
			t.Fatal(err)
		}
	}
	want := "/work/dangling->real/new /work/dir->real /work/file->real/f /work/real/ /work/real/f=new /work/real/new=new"
	if got := b.tree(t, "/work"); got != want {
		t.Errorf("copies to links: got %q, want %q", got, want)
	}
}

func testCopyInUser(t *testing.T, b *box) {
	in := tarOf(t, e{name: "d", typ: tar.TypeDir}, e{name: "d/f", body: "x", mode: 0o4755}, e{name: "d/l", typ: tar.TypeSymlink, link: "f"})
	if err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/srv/x/", User: "77:88"}, bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/srv/x", "/srv/x/d", "/srv/x/d/f", "/srv/x/d/l"} {
		st, err := b.Lstat(t.Context(), name)
		if uid, gid := st.Owner(); err != nil || uid != 77 || gid != 88 {
			t.Errorf("%s: got %d:%d, %v, want 77:88", name, uid, gid, err)
		}
	}
	if st, _ := b.Stat(t.Context(), "/srv/x/d/f"); st.Mode() != fs.ModeSetuid|0o755 {
		t.Errorf("setuid file of another: got %v, want it kept", st.Mode())
	}
	err := b.CopyIn(t.Context(), guest.CopyIn{Path: "/srv/y/", User: "no-such-user"}, bytes.NewReader(in))
	wantKind(t, "unknown user", err, guest.KindNoUser)
}
