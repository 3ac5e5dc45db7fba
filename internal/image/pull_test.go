package image

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

func linux(c Config) Config {
	c.Platform = "linux/" + testArch
	return c
}

func TestPullThroughAMirror(t *testing.T) {
	h := newHub(t)
	digest := h.push(t, "cache/library/python:slim", simple(t, "py", 1000))
	s := testStore(t, linux(Config{Mirrors: []Mirror{{Registry: "docker.io", Host: h.host + "/cache", Insecure: true}}}))
	im := mustPull(t, s, "python:slim")
	if im.Ref != "python:slim" || im.Digest != digest || im.Layers != 2 || im.Platform != "linux/amd64" || im.Created.Unix() != 1_700_000_000 || time.Since(im.Pulled) > time.Hour {
		t.Errorf("image: got %+v", im)
	}
	want := ImageConfig{Cmd: []string{"sh"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "u", Labels: map[string]string{"k": "v"}, ExposedPorts: []string{"80/tcp"}}
	if im.Config.Volumes = nil; !reflect.DeepEqual(im.Config, want) {
		t.Errorf("config: got %+v, want %+v", im.Config, want)
	}
	mustHold(t, im, "of py")
	mustBeWhole(t, s)
	if got := leftovers(t, s); got != nil {
		t.Errorf("left in tmp: %v", got)
	}

	for _, ref := range []string{"python:slim", "docker.io/library/python:slim", "index.docker.io/library/python:slim", "library/python:slim", digest, digest[7:19], im.ConfigDigest, "python@" + digest} {
		got, err := s.Image(t.Context(), ref)
		if err != nil || got.Digest != digest || got.RootfsSize == 0 {
			t.Errorf("Image(%q): got %+v, %v", ref, got, err)
		}
	}
	for _, ref := range []string{"python", "python:3", "ghcr.io/library/python:slim", "abcd", "sha256:" + strings.Repeat("0", 64)} {
		if _, err := s.Image(t.Context(), ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("Image(%q): got %v, want ErrNotFound", ref, err)
		}
	}
	before := h.all.Load()
	if _, err := s.Ensure(t.Context(), "python:slim", PullOptions{}); err != nil || h.all.Load() != before {
		t.Errorf("Ensure of a local image: got %v after %d requests, want none", err, h.all.Load()-before)
	}
}

func TestPullAgainDownloadsNothing(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 1000))
	s := testStore(t, linux(Config{}))
	first := mustPull(t, s, h.host+"/a:1")
	n := h.blobs.Load()
	again := mustPull(t, s, h.host+"/a:1")
	if h.blobs.Load() != n || again.Digest != first.Digest {
		t.Errorf("second pull: got %d blobs, want 0", h.blobs.Load()-n)
	}
	// A new image under the old name; the old one stays, without a name.
	h.push(t, "a:1", simple(t, "b", 1000))
	moved := mustPull(t, s, h.host+"/a:1")
	images, err := s.Images(t.Context())
	if err != nil || moved.Digest == first.Digest || len(images) != 2 || images[0].Ref != h.host+"/a:1" || images[1].Ref != "" || images[1].Digest != first.Digest {
		t.Errorf("images after the tag moved: got %s, %v", refs(images), err)
	}
}

func TestMirrorsComeInOrderAndTheRegistryLast(t *testing.T) {
	first, second, upstream := newHub(t), newHub(t), newHub(t)
	want := second.push(t, "x/y:1", simple(t, "second", 10))
	upstream.push(t, "x/y:1", simple(t, "upstream", 10))
	only := upstream.push(t, "x/only:1", simple(t, "only", 10))
	s := testStore(t, linux(Config{Mirrors: []Mirror{
		{Registry: upstream.host, Host: first.host}, {Registry: upstream.host, Host: second.host}, {Registry: "elsewhere.example", Host: "192.0.2.1"},
	}}))
	if im := mustPull(t, s, upstream.host+"/x/y:1"); im.Digest != want || im.Ref != upstream.host+"/x/y:1" {
		t.Errorf("pull: got %s %s, want %s of the second mirror", im.Ref, im.Digest, want)
	}
	if im := mustPull(t, s, upstream.host+"/x/only:1"); im.Digest != only {
		t.Errorf("pull: got %s, want %s of the registry", im.Digest, only)
	}
	_, err := s.Pull(t.Context(), upstream.host+"/x/none:1", PullOptions{})
	if !errors.Is(err, ErrManifestUnknown) || !strings.Contains(err.Error(), first.host) || !strings.Contains(err.Error(), second.host) || !strings.Contains(err.Error(), upstream.host) {
		t.Errorf("pull of what is nowhere: got %v, want ErrManifestUnknown naming all three", err)
	}
}

func TestABadMirrorDoesNotHideTheRegistry(t *testing.T) {
	bad, upstream := newHub(t), newHub(t)
	img := simple(t, "good", 50_000)
	bad.push(t, "x/y:1", img)
	want := upstream.push(t, "x/y:1", img)
	bad.misbehave(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if blobGet(r) {
			io.WriteString(w, strings.Repeat("evil", 20_000))
		}
		return blobGet(r)
	})
	s := testStore(t, linux(Config{Mirrors: []Mirror{{Registry: upstream.host, Host: bad.host}}}))
	if im := mustPull(t, s, upstream.host+"/x/y:1"); im.Digest != want {
		t.Errorf("pull: got %s, want %s", im.Digest, want)
	}
	mustBeWhole(t, s)
}

func TestUnqualifiedNamesAreSearched(t *testing.T) {
	a, b := newHub(t), newHub(t)
	want := b.push(t, "tool:1", simple(t, "tool", 10))
	s := testStore(t, linux(Config{Registries: []Registry{{Host: a.host, Search: true}, {Host: b.host, Search: true}}}))
	im, err := s.Ensure(t.Context(), "tool:1", PullOptions{})
	if err != nil || im.Digest != want || im.Ref != b.host+"/tool:1" {
		t.Fatalf("Ensure: got %+v, %v, want %s", im, err, want)
	}
	if im, err := s.Image(t.Context(), "tool:1"); err != nil || im.Digest != want {
		t.Errorf("Image by the searched name: got %v, %v", im, err)
	}
}

func TestPullPicksThePlatform(t *testing.T) {
	h := newHub(t)
	arm := simple(t, "arm", 10)
	cf, _ := arm.ConfigFile()
	cf = cf.DeepCopy()
	cf.Architecture = "arm64"
	arm, err := mutate.ConfigFile(arm, cf)
	if err != nil {
		t.Fatal(err)
	}
	amd := simple(t, "amd", 10)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}},
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: simple(t, "attestation", 1), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
	)
	r, _ := name.ParseReference(h.host + "/multi:1")
	if err := remote.WriteIndex(r, index); err != nil {
		t.Fatal(err)
	}
	indexDigest, _ := index.Digest()
	amdDigest, _ := amd.Digest()
	s := testStore(t, linux(Config{}))
	pinned := h.host + "/multi@" + indexDigest.String()
	for _, ref := range []string{h.host + "/multi:1", pinned} {
		if im := mustPull(t, s, ref); im.Digest != amdDigest.String() || im.Ref != ref {
			t.Errorf("pull %s: got %s %s, want %s", ref, im.Ref, im.Digest, amdDigest)
		}
	}
	if im, err := s.Ensure(t.Context(), pinned, PullOptions{}); err != nil || im.Digest != amdDigest.String() {
		t.Errorf("Ensure(%s): got %v, %v", pinned, im, err)
	}
	mustHold(t, mustPull(t, testStore(t, Config{Platform: "linux/arm64"}), h.host+"/multi:1"), "of arm")
	_, err = testStore(t, Config{Platform: "linux/s390x"}).Pull(t.Context(), h.host+"/multi:1", PullOptions{})
	if !errors.Is(err, ErrPlatform) || !strings.Contains(err.Error(), "linux/arm64") {
		t.Errorf("pull for s390x: got %v, want ErrPlatform that lists what there is", err)
	}
	h.push(t, "single:1", arm)
	if _, err := s.Pull(t.Context(), h.host+"/single:1", PullOptions{}); !errors.Is(err, ErrPlatform) {
		t.Errorf("pull of an image for arm64: got %v, want ErrPlatform", err)
	}
}

func TestPinnedDigestIsKept(t *testing.T) {
	h := newHub(t)
	digest := h.push(t, "a:1", simple(t, "a", 10))
	other := h.push(t, "a:2", simple(t, "b", 10))
	s := testStore(t, linux(Config{}))
	if im := mustPull(t, s, h.host+"/a@"+digest); im.Digest != digest {
		t.Errorf("pull by digest: got %s, want %s", im.Digest, digest)
	}
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !manifestGet(r) {
			return false
		}
		r.URL.Path = strings.Replace(r.URL.Path, other, "1", 1) // another manifest than asked for
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.Write(rec.Body.Bytes())
		return true
	})
	if _, err := s.Pull(t.Context(), h.host+"/a@"+other, PullOptions{}); !errors.Is(err, ErrDigest) {
		t.Errorf("pull of a digest the registry cheats about: got %v, want ErrDigest", err)
	}
}

func TestLayersOfEveryCompression(t *testing.T) {
	h := newHub(t)
	raw := content(t, "zstd", "is here")
	z, _ := zstd.NewWriter(nil)
	img := imageOf(t,
		layerOf(t, content(t, "plain", "is here"), types.OCIUncompressedLayer),
		layerOf(t, zip(t, content(t, "gzip", "is there")), types.DockerLayer),
		layerOf(t, z.EncodeAll(raw, nil), types.OCILayerZStd))
	h.push(t, "all:1", img)
	im := mustPull(t, testStore(t, linux(Config{})), h.host+"/all:1")
	for _, want := range []string{"plain", "gzip", "zstd", "is here", "is there"} {
		mustHold(t, im, want)
	}
}

func TestPullErrorsSayWhatToDo(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 10))
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tt := range []struct {
		name, ref string
		status    int // answered to everything
		want      error
		text      string
	}{
		{"reference", "no//thing", 0, ErrInvalidReference, "python:slim"},
		{"tag", h.host + "/a:none", 0, ErrManifestUnknown, "check the name"},
		{"repository", h.host + "/none:1", 0, ErrManifestUnknown, "check the name"},
		{"login", h.host + "/a:1", http.StatusUnauthorized, ErrUnauthorized, "docker login " + h.host},
		{"forbidden", h.host + "/a:1", http.StatusForbidden, ErrUnauthorized, "docker login " + h.host},
		{"overload", h.host + "/a:1", http.StatusServiceUnavailable, ErrUnreachable, "try again"},
		{"refused", closed.Addr().String() + "/a:1", 0, ErrUnreachable, "check the network"},
		{"no such host", "registry.invalid/a:1", 0, ErrUnreachable, "check the network"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
				if tt.status != 0 {
					w.WriteHeader(tt.status)
				}
				return tt.status != 0
			})
			s := testStore(t, linux(Config{}))
			_, err := s.Pull(t.Context(), tt.ref, PullOptions{})
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("pull: got %v, want %v with %q", err, tt.want, tt.text)
			}
			mustBeWhole(t, s)
			if got := leftovers(t, s); got != nil {
				t.Errorf("left in tmp: %v", got)
			}
		})
	}
}

func TestAServerThatFailsNowAndThenIsRetried(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 10))
	var n atomic.Int64
	h.misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		bad := n.Add(1)%2 == 1
		if bad {
			w.WriteHeader(http.StatusBadGateway)
		}
		return bad
	})
	mustPull(t, testStore(t, linux(Config{})), h.host+"/a:1")
}

// TestADeadRegistryIsAnErrorSoon has one that takes connections and is silent.
func TestADeadRegistryIsAnErrorSoon(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := testStore(t, linux(Config{}))
	s.patience = 300 * time.Millisecond
	begin := time.Now()
	_, err = s.Pull(t.Context(), l.Addr().String()+"/a:1", PullOptions{})
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "no answer within") {
		t.Errorf("pull: got %v, want ErrUnreachable", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("pull from a silent registry: took %v", d)
	}
}

func TestProgressIsInOrderAndEndsWithDone(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 100_000))
	h.misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if blobGet(r) { // so that there is time for progress
			time.Sleep(150 * time.Millisecond)
		}
		return false
	})
	var seen []Progress
	s := testStore(t, linux(Config{}))
	_, err := s.Pull(t.Context(), h.host+"/a:1", PullOptions{Progress: func(p Progress) { seen = append(seen, p) }})
	if err != nil {
		t.Fatal(err)
	}
	rank := map[string]int{"resolve": 0, "download": 1, "unpack": 2, "done": 3}
	for i, p := range seen {
		if i > 0 && (rank[p.Phase] < rank[seen[i-1].Phase] || p.Done > p.Total) {
			t.Errorf("progress: got %+v after %+v", p, seen[i-1])
		}
	}
	last := seen[len(seen)-1]
	if len(seen) < 3 || len(seen) > 100 || last.Phase != "done" || last.Done != last.Total || last.Total < 100_000 || last.Layers != 2 {
		t.Errorf("progress: got %d calls, the last %+v", len(seen), last)
	}
}
