package erofs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// entry is a line of a test layer; its body is the content.
type entry struct {
	tar.Header
	body string
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func reg(name, body string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, body: body}
}

func sym(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

func hard(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

func dev(name string, major, minor int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: name, Devmajor: major, Devminor: minor}}
}

func layerTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.body))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("layer entry %q: %v", e.Name, err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// build writes an image of layers.
func build(t testing.TB, o Options, layers ...[]byte) (string, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewWriter(f, o)
	for _, l := range layers {
		if err := w.AddLayer(bytes.NewReader(l)); err != nil {
			if _, again := w.Close(); again == nil {
				t.Error("Close after a refused layer: got nil, want an error")
			}
			return "", err
		}
	}
	size, err := w.Close()
	if err != nil {
		return "", err
	}
	if st, err := f.Stat(); err != nil || st.Size() != size {
		t.Errorf("size: got %d from Close, want %d (%v)", size, st.Size(), err)
	}
	return f.Name(), nil
}

func mustBuild(t testing.TB, layers ...[]byte) string {
	t.Helper()
	name, err := build(t, Options{}, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// list gives the paths below the root, and "path=content" of what is not a
// directory.
func list(files map[string]file) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if name == "/" {
			continue
		}
		f := files[name]
		if f.mode&modeType == modeDir {
			out = append(out, name[1:]+"/")
		} else {
			out = append(out, name[1:]+"="+f.content)
		}
	}
	return out
}

func TestLayersFlattenAsAContainerWouldSeeThem(t *testing.T) {
	lower := []entry{
		dir("a"), reg("a/x", "1"), dir("a/b"), reg("a/b/y", "2"), reg("f", "3"), sym("l", "a/b"), dir("usr/lib"), sym("lib", "/usr/lib"),
	}
	const base = "a/ a/b/ a/b/y=2 a/x=1 f=3 l=a/b lib=/usr/lib usr/ usr/lib/"
	for _, tt := range []struct {
		name  string
		upper []entry
		want  string
	}{
		{"nothing", nil, base},
		{"file over file", []entry{reg("f", "new")}, strings.Replace(base, "f=3", "f=new", 1)},
		{"file over directory", []entry{reg("a", "new")}, "a=new f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"directory over file", []entry{dir("f")}, strings.Replace(base, "f=3", "f/", 1)},
		{"directory over directory merges", []entry{dir("a")}, base},
		{"directory over symlink", []entry{dir("l")}, strings.Replace(base, "l=a/b", "l/", 1)},
		{"implied directory over lower file", []entry{reg("f/g", "new")}, strings.Replace(base, "f=3", "f/ f/g=new", 1)},
		{"whiteout", []entry{reg(".wh.f", "")}, strings.Replace(base, " f=3", "", 1)},
		{"whiteout of directory", []entry{reg(".wh.a", "")}, "f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"whiteout of what is not there", []entry{reg("no/.wh.such", "")}, base},
		{"whiteout spares its own layer", []entry{reg("f", "new"), reg(".wh.f", "")}, strings.Replace(base, "f=3", "f=new", 1)},
		{"late whiteout hides lower below a kept directory", []entry{dir("a"), reg("a/n", "new"), reg(".wh.a", "")}, "a/ a/n=new f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"whiteout as overlayfs has it", []entry{dev("f", 0, 0)}, strings.Replace(base, " f=3", "", 1)},
		{"opaque", []entry{dir("a"), reg("a/.wh..wh..opq", ""), reg("a/n", "new")}, "a/ a/n=new f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"late opaque reaches deep", []entry{dir("a"), dir("a/b"), reg("a/b/n", "new"), reg("a/.wh..wh..opq", "")}, "a/ a/b/ a/b/n=new f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"opaque root", []entry{reg(".wh..wh..opq", ""), reg("n", "new")}, "n=new"},
		{"aufs bookkeeping", []entry{dir(".wh..wh.plnk"), reg(".wh..wh.aufs", "")}, base},
		{"through a symlink", []entry{reg("l/n", "new")}, strings.Replace(base, "a/b/ ", "a/b/ a/b/n=new ", 1)},
		{"through an absolute symlink", []entry{reg("lib/n", "new")}, base + " usr/lib/n=new"},
		{"whiteout through a symlink", []entry{reg("l/.wh.y", "")}, strings.Replace(base, " a/b/y=2", "", 1)},
		{"through a dangling symlink", []entry{sym("d", "new/place"), reg("d/n", "x")}, strings.Replace(base, "f=3 l=a/b lib=/usr/lib", "d=new/place f=3 l=a/b lib=/usr/lib new/ new/place/ new/place/n=x", 1)},
		{"link over the directory it comes from", []entry{hard("a", "a/x")}, "a=1 f=3 l=a/b lib=/usr/lib usr/ usr/lib/"},
		{"symlink that leaves is only data", []entry{sym("f", "../../../etc/passwd")}, strings.Replace(base, "f=3", "f=../../../etc/passwd", 1)},
		{"null device in its place is skipped", []entry{dir("dev"), dev("dev/null", 1, 3)}, strings.Replace(base, "f=3", "dev/ f=3", 1)},
		{"dots and slashes", []entry{reg("./a/.//n", "new")}, strings.Replace(base, "a/x=1", "a/n=new a/x=1", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := mustBuild(t, layerTar(t, lower...), layerTar(t, tt.upper...))
			if got := strings.Join(list(read(t, img)), " "); got != tt.want {
				t.Errorf("image:\ngot  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestMetadataSurvives(t *testing.T) {
	when := time.Unix(1_700_000_000, 123_456_789)
	es := []entry{
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o700, Uid: 7, Gid: 8, ModTime: when}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "su", Mode: 0o4755, Uid: 0, Gid: 42, ModTime: when, Format: tar.FormatPAX}, body: "x"},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "closed", Mode: 0, Uid: 4_000_000_000, Gid: 70_000}, body: "secret"},
		{Header: tar.Header{Typeflag: tar.TypeDir, Name: "tmp", Mode: 0o1777}},
		{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o600}},
		{Header: tar.Header{Typeflag: tar.TypeReg, Name: "cap", Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "x"}}},
		hard("su2", "su"), sym("far", strings.Repeat("x", 4090)), sym("farther", strings.Repeat("y/", 2000)),
		reg(strings.Repeat("n", 255), "long"), reg(strings.Repeat("d/", 100)+"deep", "deep"),
	}
	es[0].ModTime = when.Truncate(time.Second)
	got := read(t, mustBuild(t, layerTar(t, es...)))
	for name, want := range map[string]file{
		"/":                                      {mode: 0o40700, uid: 7, gid: 8, mtime: 1_700_000_000, nlink: 4, first: "/"},
		"/su":                                    {mode: 0o104755, gid: 42, mtime: 1_700_000_000, nsec: 123_456_789, nlink: 2, content: "x", first: "/su"},
		"/su2":                                   {mode: 0o104755, gid: 42, mtime: 1_700_000_000, nsec: 123_456_789, nlink: 2, content: "x", first: "/su"},
		"/closed":                                {mode: 0o100000, uid: 4_000_000_000, gid: 70_000, nlink: 1, content: "secret", first: "/closed"},
		"/tmp":                                   {mode: 0o41777, nlink: 2, first: "/tmp"},
		"/pipe":                                  {mode: 0o10600, nlink: 1, first: "/pipe"},
		"/cap":                                   {mode: 0o100755, nlink: 1, first: "/cap"},
		"/far":                                   {mode: 0o120777, nlink: 1, content: strings.Repeat("x", 4090), first: "/far"},
		"/farther":                               {mode: 0o120777, nlink: 1, content: strings.Repeat("y/", 2000), first: "/farther"},
		"/" + strings.Repeat("n", 255):           {mode: 0o100644, nlink: 1, content: "long", first: "/" + strings.Repeat("n", 255)},
		"/" + strings.Repeat("d/", 100) + "deep": {mode: 0o100644, nlink: 1, content: "deep", first: "/" + strings.Repeat("d/", 100) + "deep"},
	} {
		if got[name] != want {
			t.Errorf("%.40s:\ngot  %+v\nwant %+v", name, got[name], want)
		}
	}
}

func TestHostileLayersAreRefusedByName(t *testing.T) {
	huge := layerTar(t, reg("small", "x"), reg("huge", strings.Repeat("x", 20_000)))
	many := make([]entry, 0, 200)
	for range 200 {
		many = append(many, reg("again", ""))
	}
	link := func(n int) (es []entry) {
		for i := range n {
			es = append(es, sym("l"+strings.Repeat("i", i), "l"+strings.Repeat("i", i+1)))
		}
		return append(es, reg("l/x", ""))
	}
	for _, tt := range []struct {
		name   string
		layer  []byte
		o      Options
		entry  string // named by the error
		reason string
	}{
		{"absolute", layerTar(t, reg("/etc/passwd", "x")), Options{}, "/etc/passwd", "absolute"},
		{"dotdot", layerTar(t, reg("../../etc/passwd", "x")), Options{}, "../../etc/passwd", `".."`},
		{"dotdot inside", layerTar(t, dir("a"), reg("a/../../b", "x")), Options{}, "a/../../b", `".."`},
		{"dotdot that is allowed nowhere", layerTar(t, reg("/../b", "x")), Options{AllowAbsolute: true}, "/../b", `".."`},
		{"through a symlink that leaves", layerTar(t, sym("out", "../../../etc"), reg("out/passwd", "x")), Options{}, "out/passwd", "leaves the image"},
		{"through a circle", layerTar(t, sym("a", "b"), sym("b", "a"), reg("a/x", "")), Options{}, "a/x", "symlinks"},
		{"through a long chain", layerTar(t, link(60)...), Options{}, "l/x", "symlinks"},
		{"through a heavy chain", layerTar(t, sym("w", strings.Repeat("./", 2000)), reg("w/x", "")), Options{}, "w/x", "elements"},
		{"link outside", layerTar(t, hard("shadow", "../../etc/shadow")), Options{}, "shadow", `".."`},
		{"absolute link", layerTar(t, hard("shadow", "/etc/shadow")), Options{}, "shadow", "absolute"},
		{"link to nothing", layerTar(t, hard("shadow", "etc/shadow")), Options{}, "shadow", "not in the image"},
		{"link to a directory", layerTar(t, dir("d"), hard("h", "d")), Options{}, "h", "directory"},
		{"link to the root", layerTar(t, hard("h", ".")), Options{}, "h", "directory"},
		{"block device", layerTar(t, entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Devmajor: 8}}), Options{}, "dev/sda", "device node 8:0"},
		{"memory device", layerTar(t, dev("dev/mem", 1, 1)), Options{}, "dev/mem", "device node 1:1"},
		{"null device elsewhere", layerTar(t, dev("tmp/null", 1, 3)), Options{}, "tmp/null", "device node 1:3"},
		{"null by another number", layerTar(t, dev("dev/null", 8, 0)), Options{}, "dev/null", "device node 8:0"},
		{"file as root", layerTar(t, sym("./", "x")), Options{}, "./", "root"},
		{"long name", layerTar(t, reg(strings.Repeat("n", 256), "")), Options{}, "nnn", "255 bytes"},
		{"long path", layerTar(t, reg(strings.Repeat("n/", 2100)+"x", "")), Options{}, "n/n", "4095 bytes"},
		{"deep path", layerTar(t, reg(strings.Repeat("n/", 300)+"x", "")), Options{}, "n/n", "deeper"},
		{"symlink to nothing", layerTar(t, sym("s", "")), Options{}, "s", "nothing"},
		{"long symlink", layerTar(t, sym("s", strings.Repeat("x", 4096))), Options{}, "s", "4095 bytes"},
		{"file as parent", layerTar(t, reg("f", ""), reg("f/x", "")), Options{}, "f/x", "not a directory"},
		{"whiteout of dotdot", layerTar(t, reg("a/.wh...", "")), Options{}, "a/.wh...", "whiteout"},
		{"owner", layerTar(t, entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "o", Uid: 1 << 40, Format: tar.FormatPAX}}), Options{}, "o", "owner"},
		{"too large", huge, Options{MaxBytes: 16384}, "huge", "larger than 16384"},
		{"too many", layerTar(t, many...), Options{MaxEntries: 100}, "again", "100 entries"},
		{"too many implied", layerTar(t, reg(strings.Repeat("n/", 200)+"x", "")), Options{MaxEntries: 100}, "n/n", "100 entries"},
		{"garbage", append(layerTar(t, reg("last", "x"))[:1024], bytes.Repeat([]byte("garbage!"), 512)...), Options{}, "last", "tar header"},
		{"endless tail", append(huge, make([]byte, 1<<20)...), Options{MaxBytes: 64 << 10, MaxEntries: 4}, "huge", "longer than the limit"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := build(t, tt.o, tt.layer)
			e, ok := err.(*EntryError)
			if !ok || !strings.Contains(e.Entry, tt.entry) || !strings.Contains(e.Reason, tt.reason) {
				t.Errorf("AddLayer: got %v, want entry %q refused: %q", err, tt.entry, tt.reason)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("length of the message: got %d, want at most 1000", len(err.Error()))
			}
		})
	}
}

func TestTruncatedLayerIsAnError(t *testing.T) {
	whole := layerTar(t, reg("a", "x"), reg("cut", strings.Repeat("x", 5000)))
	_, err := build(t, Options{}, whole[:4000])
	if err == nil || !strings.Contains(err.Error(), "unexpected EOF") || !strings.Contains(err.Error(), "cut") {
		t.Errorf("AddLayer of half a layer: got %v, want unexpected EOF at cut", err)
	}
}

func TestAbsoluteNamesWhenAllowed(t *testing.T) {
	img, err := build(t, Options{AllowAbsolute: true}, layerTar(t, reg("/a/x", "1"), hard("/a/y", "/a/x")))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(list(read(t, img)), " "), "a/ a/x=1 a/y=1"; got != want {
		t.Errorf("image: got %s, want %s", got, want)
	}
}

func TestReplacedDataGoesBackToTheHost(t *testing.T) {
	big := strings.Repeat("data", 1<<20)
	size := func(name string) int64 {
		st, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return diskBytes(st)
	}
	once := size(mustBuild(t, layerTar(t, reg("f", big))))
	img := mustBuild(t, layerTar(t, reg("f", big), reg("g", big)), layerTar(t, reg("f", big), reg(".wh.g", "")))
	if twice := size(img); twice > once+64<<10 {
		t.Errorf("bytes on disk of a replaced file: got %d, want about %d", twice, once)
	}
	if got := read(t, img)["/f"].content; got != big {
		t.Error("content of the replacing file is not what was written")
	}
}

func TestZerosAreHoles(t *testing.T) {
	body := strings.Repeat("\x00", 8<<20) + "end"
	img := mustBuild(t, layerTar(t, reg("a", "x"), reg("f", body), reg("g", "y")))
	st, err := os.Stat(img)
	if err != nil {
		t.Fatal(err)
	}
	if got := diskBytes(st); got > 1<<20 {
		t.Errorf("bytes on disk: got %d, want less than 1 MiB", got)
	}
	files := read(t, img)
	if files["/f"].content != body || files["/g"].content != "y" {
		t.Error("content of a file with holes is not what was written")
	}
}

func TestSameLayersSameImage(t *testing.T) {
	l := layerTar(t, dir("d"), reg("d/x", "1"), reg("d/y", "2"), hard("z", "d/x"), sym("s", "d"))
	a, err := os.ReadFile(mustBuild(t, l))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(mustBuild(t, l))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("two images of one layer differ (%v)", err)
	}
}

func TestManyEntries(t *testing.T) {
	const n = 200_000
	r, pw := io.Pipe()
	go func() { // ends with the layer, which AddLayer reads to its end
		w := tar.NewWriter(pw)
		h := &tar.Header{Typeflag: tar.TypeReg, Mode: 0o644}
		for i := range n {
			h.Name = fmt.Sprintf("dir%d/%s-%d", i%20, strings.Repeat("x", i%50), i)
			if err := w.WriteHeader(h); err != nil {
				break
			}
		}
		pw.CloseWithError(w.Close())
	}()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := NewWriter(f, Options{})
	if err := w.AddLayer(r); err != nil {
		r.CloseWithError(err)
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(read(t, f.Name())); got != n+21 {
		t.Errorf("entries: got %d, want %d", got, n+21)
	}
}

// diskBytes is what a file occupies.
func diskBytes(st fs.FileInfo) int64 { return st.Sys().(*syscall.Stat_t).Blocks * 512 }
