package restapi

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{Limits: Limits{Upload: 1 << 20}})
	b := x.box()
	files := "/v1/boxes/" + b + "/files?path=/files"
	const text = "0123456789"
	if a := x.do("PUT", files+"/deep/file&mode=600", text, "Content-Type", typeRaw); a.status != 204 {
		t.Fatalf("raw: got %v", a)
	}
	a := x.do("GET", files+"/deep/file", "", "Accept", typeRaw)
	if string(a.body) != text || a.header.Get("X-Boxlite-Mode") != "600" || a.header.Get("Content-Length") != "10" {
		t.Errorf("raw: got %v, mode %s", a, a.header.Get("X-Boxlite-Mode"))
	}
	etag := a.header.Get("ETag")
	if a := x.do("GET", files+"/deep/file", "", "Accept", typeRaw, "If-None-Match", etag); a.status != 304 {
		t.Errorf("not changed: got %v, want 304", a)
	}
	for rng, want := range map[string]string{"bytes=3-5": "345", "bytes=-2": "89", "bytes=8-": "89", "bytes=0-0": "0"} {
		if a := x.do("GET", files+"/deep/file", "", "Accept", typeRaw, "Range", rng, "If-Range", etag); a.status != 206 || string(a.body) != want {
			t.Errorf("%s: got %v, want 206 %q", rng, a, want)
		}
	}
	if a := x.do("GET", files+"/deep/file", "", "Accept", typeRaw, "Range", "bytes=3-5", "If-Range", `"other"`); a.status != 200 || string(a.body) != text {
		t.Errorf("range of another version: got %v, want all", a)
	}
	if a := x.do("GET", files+"/deep/file", "", "Accept", typeRaw, "Range", "bytes=50-"); a.status != 416 {
		t.Errorf("range past the end: got %v, want 416", a)
	}
	if a := x.do("GET", files+"/deep", "", "Accept", typeRaw); a.status != 400 {
		t.Errorf("a directory as a file: got %v, want 400", a)
	}
	for _, to := range []string{"/deep", "/deep/", "/new/"} {
		if a := x.do("PUT", files+to, text, "Content-Type", typeRaw); a.status != 400 {
			t.Errorf("a file as the directory %s: got %v, want 400", to, a)
		}
	}
	if a := x.do("PUT", files+"/deep/file&overwrite=false", text, "Content-Type", typeRaw); a.status != 409 {
		t.Errorf("overwrite=false: got %v, want 409", a)
	}
	if a := x.do("PUT", files+"/big", strings.Repeat("x", 1<<20+1), "Content-Type", typeRaw); a.status != 413 {
		t.Errorf("too large: got %v, want 413", a)
	}
	if a := x.do("PUT", files+"/bad", "no archive, but long enough to be taken for a header of one?"+strings.Repeat("?", 1000), "Content-Type", typeTar); a.status != 400 {
		t.Errorf("no archive: got %v, want 400", a)
	}
}

// TestTarLandsWhereAsked: a single file becomes the path, several go below it,
// and never into something in between.
func TestTarLandsWhereAsked(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	pack := func(names ...string) string {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, n := range names {
			h := &tar.Header{Typeflag: tar.TypeReg, Name: n, Mode: 0o644, Size: int64(len(n))}
			if strings.HasSuffix(n, "/") {
				h.Typeflag, h.Size, h.Mode = tar.TypeDir, 0, 0o755
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Size > 0 {
				_, _ = io.WriteString(w, n)
			}
		}
		w.Close()
		return buf.String()
	}
	for _, tt := range []struct {
		name, path string
		entries    []string
		file, want string
	}{
		{"one file becomes the path", "/t1/renamed", []string{"a"}, "/t1/renamed", "a"},
		{"one file below a directory", "/t2/dir/", []string{"a"}, "/t2/dir/a", "a"},
		{"several below the path", "/t3/dir", []string{"a", "b"}, "/t3/dir/b", "b"},
		{"a tree below the path", "/t4/dir", []string{"./", "./sub/", "./sub/c"}, "/t4/dir/sub/c", "./sub/c"},
		{"a relative path", "t5/x", []string{"a"}, "/t5/x", "a"},
	} {
		if a := x.do("PUT", "/v1/boxes/"+b+"/files?path="+tt.path, pack(tt.entries...), "Content-Type", typeTar); a.status != 204 {
			t.Errorf("%s: got %v", tt.name, a)
		}
		if a := x.do("GET", "/v1/boxes/"+b+"/files?path="+tt.file, "", "Accept", typeRaw); string(a.body) != tt.want {
			t.Errorf("%s: %s: got %v, want %q", tt.name, tt.file, a, tt.want)
		}
	}
	for _, evil := range []string{"../out", "/abs", "a/../../out"} {
		if a := x.do("PUT", "/v1/boxes/"+b+"/files?path=/evil/", pack(evil), "Content-Type", typeTar); a.status != 400 {
			t.Errorf("entry %q: got %v, want 400", evil, a)
		}
	}
	names := []string{}
	a := x.do("GET", "/v1/boxes/"+b+"/files?path=/t3/dir", "", "Accept", typeTar)
	for r := tar.NewReader(bytes.NewReader(a.body)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "dir/ dir/a dir/b" && got != "dir/ dir/b dir/a" {
		t.Errorf("archive: got %s", got)
	}
}
