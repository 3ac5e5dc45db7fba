package restapi

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestRanges: parts of a file as HTTP has them; what cannot be given is refused
// in the shape of every error.
func TestRanges(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	path := "/v1/boxes/" + x.box() + "/files?path=/file"
	const text = "0123456789"
	x.do("PUT", path, text, "Content-Type", typeRaw)
	head := x.do("HEAD", path, "", "Accept", typeRaw)
	etag, modified := head.header.Get("ETag"), head.header.Get("Last-Modified")
	if head.status != 200 || head.header.Get("Content-Length") != "10" || etag == "" || modified == "" {
		t.Fatalf("HEAD: got %v, %v", head, head.header)
	}
	for _, tt := range []struct {
		header []string
		status int
		body   string
	}{
		{[]string{"Range", "bytes=-50"}, 206, text},
		{[]string{"Range", "bytes=9-100"}, 206, "9"},
		{[]string{"Range", "bytes=10-"}, 416, ""},
		{[]string{"Range", "bytes=5-2"}, 416, ""},
		{[]string{"Range", "bytes=-0"}, 416, ""},
		{[]string{"Range", "bytes=a-b"}, 416, ""},
		{[]string{"Range", "lines=1-2"}, 200, text},
		{[]string{"Range", "bytes=0-0" + strings.Repeat(",0-0", maxRanges)}, 200, text},
		{[]string{"Range", "bytes=0-1", "If-Range", modified}, 206, "01"},
		{[]string{"Range", "bytes=0-1", "If-Range", "W/" + etag}, 200, text},
		{[]string{"Range", "bytes=0-1", "If-Range", "Mon, 02 Jan 2006 15:04:05 GMT"}, 200, text},
		{[]string{"If-Match", `"other"`}, 412, ""},
		{[]string{"If-Match", etag}, 200, text},
		{[]string{"If-Modified-Since", modified}, 304, ""},
		{[]string{"If-None-Match", `"other", ` + etag}, 304, ""},
	} {
		a := x.do("GET", path, "", append([]string{"Accept", typeRaw}, tt.header...)...)
		if a.status != tt.status || tt.status < 400 && string(a.body) != tt.body {
			t.Errorf("%q: got %v, want %d %q", tt.header, a, tt.status, tt.body)
		}
		if code, _ := a.fault(); tt.status == 416 && code != "invalid_argument" {
			t.Errorf("%q: got %v, want an envelope", tt.header, a)
		}
	}
	a := x.do("GET", path, "", "Accept", typeRaw, "Range", "bytes=8-8,0-1")
	if kind := a.header.Get("Content-Type"); a.status != 206 || !strings.HasPrefix(kind, "multipart/byteranges") ||
		!strings.Contains(string(a.body), "bytes 8-8/10") || !strings.Contains(string(a.body), "\r\n\r\n01\r\n") {
		t.Errorf("two parts, the second before the first: got %s %v", kind, a)
	}
}

// TestChangedWhileDownloaded: nobody takes a mixture of two files for one.
func TestChangedWhileDownloaded(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	const size = 64 << 20 // more than sockets hold on the way
	box, err := x.rt.Box(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	write := func(content byte) {
		if err := box.WriteFile(t.Context(), "/file", bytes.Repeat([]byte{content}, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write('a')
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.http.URL+"/v1/boxes/"+b+"/files?path=/file", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", typeRaw)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	write('b')
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("got %d bytes and no error", n)
	}
}

// entry is a file of a tar.
func entry(name, content string) (*tar.Header, string) {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content
}

// archive is a tar of what add adds.
func archive(t *testing.T, add func(put func(*tar.Header, string))) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	add(func(h *tar.Header, content string) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, content)
	})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

// TestBrokenUploads: an upload that breaks off leaves what was there before,
// and nothing half made.
func TestBrokenUploads(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	files := "/v1/boxes/" + b + "/files?path=/dir"
	x.do("PUT", files+"/old", "old", "Content-Type", typeRaw)
	big := strings.Repeat("new", 1<<20)
	two := archive(t, func(put func(*tar.Header, string)) {
		put(entry("first", "first"))
		put(entry("old", big))
	})
	for name, tt := range map[string]struct{ path, kind, body string }{
		"a file over another": {"/old", typeRaw, big},
		"a new file":          {"/new", typeRaw, big},
		"a tar of one":        {"/old", typeTar, archive(t, func(put func(*tar.Header, string)) { put(entry("old", big)) })},
		"a tar of two":        {"/", typeTar, two},
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(x.http.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT %s%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", files, tt.path, tt.kind, len(tt.body))
		_, _ = io.WriteString(conn, tt.body[:len(tt.body)-1<<19])
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 4")) {
			t.Errorf("%s: got %.300s, want a refusal", name, answer)
		}
	}
	if a := x.do("GET", files+"/old", "", "Accept", typeRaw); string(a.body) != "old" {
		t.Errorf("the file that was there: got %.100v", a)
	}
	var names []string
	for _, e := range want[rest.Files](x, 200, "GET", "/v1/boxes/"+b+"/files/list?path=/dir", "").Entries {
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "first old" {
		t.Errorf("left: %s, want first and old", got)
	}
}

// TestArchives: links stay in the tree, holes are holes, and what is no file
// is refused by name.
func TestArchives(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	link := func(kind byte, name, to string) (*tar.Header, string) {
		return &tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o644}, ""
	}
	for i, tt := range []struct {
		name   string
		add    func(put func(*tar.Header, string))
		status int
		says   string
	}{
		{"a hard link", func(put func(*tar.Header, string)) { put(entry("a", "text")); put(link(tar.TypeLink, "b", "a")) }, 204, ""},
		{"a hard link out", func(put func(*tar.Header, string)) { put(entry("a", "x")); put(link(tar.TypeLink, "b", "../a")) }, 400, "leads out"},
		{"a hard link to a path", func(put func(*tar.Header, string)) {
			put(entry("a", "x"))
			put(link(tar.TypeLink, "b", "/etc/passwd"))
		}, 400, "absolute"},
		{"a hard link to nothing", func(put func(*tar.Header, string)) { put(entry("a", "x")); put(link(tar.TypeLink, "b", "none")) }, 404, `"b\"`},
		{"through a link", func(put func(*tar.Header, string)) {
			put(link(tar.TypeSymlink, "l", "/tmp"))
			put(entry("l/x", "x"))
		}, 400, "leads out"},
		{"a device", func(put func(*tar.Header, string)) { put(link(tar.TypeChar, "null", "")) }, 400, "not a file"},
		{"a pipe", func(put func(*tar.Header, string)) { put(link(tar.TypeFifo, "pipe", "")) }, 400, "not a file"},
		{"nothing", func(func(*tar.Header, string)) {}, 204, ""},
	} {
		path := fmt.Sprintf("/v1/boxes/%s/files?path=/a%d/", b, i)
		a := x.do("PUT", path, archive(t, tt.add), "Content-Type", typeTar)
		if a.status != tt.status || !strings.Contains(string(a.body), tt.says) {
			t.Errorf("%s: got %v, want %d %s", tt.name, a, tt.status, tt.says)
		}
	}
	if a := x.do("GET", "/v1/boxes/"+b+"/files?path=/a0/b", "", "Accept", typeRaw); string(a.body) != "text" {
		t.Errorf("hard link: got %v", a)
	}
	x.do("PUT", "/v1/boxes/"+b+"/files?path=/holes", string(make([]byte, 32<<20)), "Content-Type", typeRaw)
	if blocks := strings.TrimSpace(x.attach(b, x.exec(b, "stat -c '%s %b' holes"), "").exit(0).out); blocks != "33554432 0" {
		t.Errorf("a file of zeros: got size and blocks %s, want none of these", blocks)
	}
}
