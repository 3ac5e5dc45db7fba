package image

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestRemove(t *testing.T) {
	h := newHub(t)
	img := simple(t, "a", 100_000)
	h.push(t, "a:1", img)
	h.push(t, "a:2", img)
	s := testStore(t, linux(Config{}))
	one, two := h.host+"/a:1", h.host+"/a:2"
	mustPull(t, s, one)
	im := mustPull(t, s, two)
	used := func(digest string) bool { return digest == im.Digest }

	if _, err := s.Remove(t.Context(), h.host+"/a:3", nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("Remove of what is not here: got %v, want ErrNotFound", err)
	}
	if _, err := s.Remove(t.Context(), im.Digest, used); !errors.Is(err, ErrInUse) {
		t.Errorf("Remove by digest in use: got %v, want ErrInUse", err)
	}
	if freed, err := s.Remove(t.Context(), one, used); err != nil || freed != 0 {
		t.Errorf("Remove of one of two names: got %d, %v, want 0, nil", freed, err)
	}
	if _, err := s.Remove(t.Context(), two, used); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "remove the box") {
		t.Errorf("Remove of the last name in use: got %v, want ErrInUse", err)
	}
	mustHold(t, im, "of a")
	if freed, err := s.Remove(t.Context(), two, nil); err != nil || freed < 200_000 {
		t.Errorf("Remove of the last name: got %d, %v, want blobs and root file system", freed, err)
	}
	for _, d := range []string{"tmp", "rootfs", "blobs/sha256"} {
		if e, _ := os.ReadDir(s.path(d)); len(e) != 0 {
			t.Errorf("files in %s: got %d, want none", d, len(e))
		}
	}
}

func TestPruneKeepsWhatIsKept(t *testing.T) {
	h := newHub(t)
	s := testStore(t, linux(Config{}))
	var digests []string
	for i := range 3 { // the tag moves: two are left without a name
		h.push(t, "a:1", simple(t, fmt.Sprint(i), 10_000))
		digests = append(digests, mustPull(t, s, h.host+"/a:1").Digest)
	}
	if err := os.WriteFile(s.path("tmp", "abc.part"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.path("blobs", "sha256", strings.Repeat("0", 64)), []byte("nobody's"), 0o600); err != nil {
		t.Fatal(err)
	}
	removed, freed, err := s.Prune(t.Context(), func(im *Image) bool { return im.Ref != "" || im.Digest == digests[0] })
	if err != nil || len(removed) != 1 || removed[0].Digest != digests[1] || freed < 20_000 {
		t.Errorf("Prune: got %v, %d, %v, want the second", removed, freed, err)
	}
	images, err := s.Images(t.Context())
	if err != nil || len(images) != 2 {
		t.Errorf("images after Prune: got %s, %v", refs(images), err)
	}
	mustBeWhole(t, s)
	if e, _ := os.ReadDir(s.path("rootfs")); len(e) != 2 {
		t.Errorf("root file systems: got %d, want 2", len(e))
	}
	if got := leftovers(t, s); got != nil {
		t.Errorf("left in tmp: %v", got)
	}
}

func TestRootfsIsMadeAgainOnDemand(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 1000))
	s := testStore(t, linux(Config{}))
	im := mustPull(t, s, h.host+"/a:1")
	if err := os.Remove(im.Rootfs); err != nil {
		t.Fatal(err)
	}
	n := h.all.Load()
	again, err := s.Image(t.Context(), h.host+"/a:1")
	if err != nil || h.all.Load() != n || again.RootfsSize == 0 {
		t.Fatalf("Image without its root file system: got %+v, %v", again, err)
	}
	mustHold(t, again, "of a")
}

func TestARottenBlobIsPulledAgain(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 1000))
	s := testStore(t, linux(Config{}))
	im := mustPull(t, s, h.host+"/a:1")
	entries, _ := os.ReadDir(s.path("blobs", "sha256"))
	for _, e := range entries {
		path := s.path("blobs", "sha256", e.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		os.Chmod(path, 0o600)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Remove(im.Rootfs)
	for range 3 { // one error may be seen for each that is found out
		if im, err := s.Pull(t.Context(), h.host+"/a:1", PullOptions{}); err == nil {
			mustHold(t, im, "of a")
			mustBeWhole(t, s)
			return
		} else if !errors.Is(err, ErrDigest) {
			t.Fatalf("Pull over rotten blobs: got %v", err)
		}
	}
	t.Error("Pull over rotten blobs does not mend them")
}

func TestOpenSweepsWhatTheDeadLeft(t *testing.T) {
	s := testStore(t, linux(Config{}))
	old := time.Now().Add(-2 * partLife)
	for name, mtime := range map[string]time.Time{"rootfs-1": time.Now(), "stage-1": time.Now(), "a.pin": time.Now(), "new.part": time.Now(), "old.part": old} {
		if err := os.WriteFile(s.path("tmp", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(s.path("tmp", name), mtime, mtime)
	}
	live, err := s.temp("live-*")
	if err != nil {
		t.Fatal(err)
	}
	defer live.discard()
	testStore(t, linux(Config{Dir: s.dir}))
	if got := fmt.Sprint(leftovers(t, s)); got != "[new.part]" {
		t.Errorf("left in tmp: got %s, want [new.part]", got)
	}
	if _, err := os.Stat(live.Name()); err != nil {
		t.Errorf("file of the living: %v", err)
	}
}

func TestOpenRefusesBadConfig(t *testing.T) {
	for _, c := range []Config{
		{Platform: "linux"}, {Platform: "a/b/c/d/e"}, {Mirrors: []Mirror{{Registry: "docker.io", Host: "http://x"}}}, {Registries: []Registry{{Host: "x/y"}}},
	} {
		c.Dir = t.TempDir()
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "write it like") {
			t.Errorf("Open(%+v): got %v, want an error that says how to write it", c, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, tt := range []struct{ in, familiar, full string }{
		{"alpine", "alpine:latest", "docker.io/library/alpine:latest"},
		{"python:slim", "python:slim", "docker.io/library/python:slim"},
		{"library/python:slim", "python:slim", "docker.io/library/python:slim"},
		{"docker.io/python", "python:latest", "docker.io/library/python:latest"},
		{"index.docker.io/library/python", "python:latest", "docker.io/library/python:latest"},
		{"user/app:v1.0_x", "user/app:v1.0_x", "docker.io/user/app:v1.0_x"},
		{"ghcr.io/x/y", "ghcr.io/x/y:latest", "ghcr.io/x/y:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x:1", "localhost:5000/x:1", "localhost:5000/x:1"},
		{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"},
		{"a/b/c__d/e-f.g", "a/b/c__d/e-f.g:latest", "docker.io/a/b/c__d/e-f.g:latest"},
		{"x@" + digest, "x@" + digest, "docker.io/library/x@" + digest},
		{"x:tag@" + digest, "x@" + digest, "docker.io/library/x@" + digest},
	} {
		r, err := ParseReference(tt.in)
		if err != nil || r.String() != tt.familiar || r.Full() != tt.full {
			t.Errorf("ParseReference(%q): got %q, %q, %v, want %q, %q", tt.in, r, r.Full(), err, tt.familiar, tt.full)
		}
	}
	for _, in := range []string{
		"", " ", "UPPER", "a b", "a:", ":a", "a:b:c", "a//b", "/a", "a/", "../a", "a/../b", "./a", "-a", "a:-b", "a:.b", "a@", "a@sha256:", "a@sha256:abc",
		"a@md5:" + strings.Repeat("a", 32), "a@" + digest + "x", "http://a/b", "a\x00b", "a\nb", "é", "host:99999999/x", "exa mple.com/x", "--flag", strings.Repeat("a", 5000), "a:" + strings.Repeat("b", 129),
	} {
		if r, err := ParseReference(in); !errors.Is(err, ErrInvalidReference) {
			t.Errorf("ParseReference(%.40q): got %q, %v, want ErrInvalidReference", in, r, err)
		} else if !strings.Contains(err.Error(), "python:slim") || len(err.Error()) > 600 {
			t.Errorf("ParseReference(%.40q): %v has no example, or is too long", in, err)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"alpine", "ghcr.io/x/y:1", "localhost:5000/x@sha256:" + strings.Repeat("a", 64), "a/../b", "[::1]:5000/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidReference) {
				t.Fatalf("ParseReference(%q): got %v", s, err)
			}
			return
		}
		for _, form := range []string{r.Full(), r.String()} {
			if again, err := ParseReference(form); err != nil || again.Full() != r.Full() {
				t.Fatalf("ParseReference(%q) of %q: got %q, %v, want %q", form, s, again.Full(), err, r.Full())
			}
		}
	})
}

// BenchmarkUnpack is a compressed layer of 64 MiB that compresses to a third.
func BenchmarkUnpack(b *testing.B) {
	var files []string
	for i := range 1024 {
		files = append(files, fmt.Sprintf("d%d/f%d", i%16, i), strings.Repeat(noiseOf(fmt.Sprint(i), 64), 320)+noiseOf(fmt.Sprint(i), 44<<10))
	}
	raw := content(b, files...)
	h := newHub(b)
	h.push(b, "big:1", imageOf(b, layerOf(b, zip(b, raw), types.OCILayer)))
	s := testStore(b, linux(Config{}))
	im := mustPull(b, s, h.host+"/big:1")
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		os.Remove(im.Rootfs)
		if _, err := s.Image(b.Context(), im.Ref); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEnsureLocal is what the start of a box pays.
func BenchmarkEnsureLocal(b *testing.B) {
	h := newHub(b)
	h.push(b, "a:1", simple(b, "a", 1000))
	s := testStore(b, linux(Config{}))
	im := mustPull(b, s, h.host+"/a:1")
	for b.Loop() {
		if _, err := s.Ensure(b.Context(), im.Ref, PullOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}
