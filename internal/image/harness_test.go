package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

func testStore(t testing.TB, c Config) *Store {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	if c.Keychain == nil {
		c.Keychain = noKeychain{}
	}
	s, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// noKeychain keeps tests off the configuration of who runs them.
type noKeychain struct{}

func (noKeychain) Resolve(authn.Resource) (authn.Authenticator, error) { return authn.Anonymous, nil }

// hub is a real registry handler that counts and can be made to misbehave.
type hub struct {
	*httptest.Server
	host    string
	blobs   atomic.Int64 // GETs of blobs
	all     atomic.Int64 // requests
	broken  atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler) bool]
	handler http.Handler
}

func newHub(t testing.TB) *hub {
	h := &hub{handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	h.host = strings.TrimPrefix(h.URL, "http://")
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.all.Add(1)
	if f := h.broken.Load(); f != nil && (*f)(w, r, h.handler) {
		return
	}
	if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
		h.blobs.Add(1)
	}
	h.handler.ServeHTTP(w, r)
}

// misbehave puts f before the registry; f returns true when it has answered.
func (h *hub) misbehave(f func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	h.broken.Store(&f)
}

func blobGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
}

func manifestGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/")
}

func (h *hub) push(t testing.TB, ref string, img v1.Image) string {
	t.Helper()
	r, err := name.ParseReference(h.host+"/"+ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(r, img); err != nil {
		t.Fatal(err)
	}
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// content is a tar of files, by name.
func content(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[i+1])
	}
	w.Close()
	return b.Bytes()
}

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func layerOf(t testing.TB, b []byte, mt types.MediaType) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }, tarball.WithMediaType(mt))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func imageOf(t testing.TB, layers ...v1.Layer) v1.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", testArch
	cf.Created = v1.Time{Time: time.Unix(1_700_000_000, 0).UTC()}
	cf.Config = v1.Config{Cmd: []string{"sh"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "u", Labels: map[string]string{"k": "v"}, ExposedPorts: map[string]struct{}{"80/tcp": {}}}
	img, err = mutate.ConfigFile(img, cf)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

const testArch = "amd64"

// simple is an image of two layers, the first with so many bytes of noise.
func simple(t testing.TB, mark string, noise int) v1.Image {
	t.Helper()
	return imageOf(t,
		layerOf(t, zip(t, content(t, "etc/mark", mark, "noise", noiseOf(mark, noise))), types.OCILayer),
		layerOf(t, zip(t, content(t, "etc/upper", "of "+mark)), types.OCILayer))
}

// noiseOf does not compress, so that sizes are what they say.
func noiseOf(seed string, n int) string {
	b := make([]byte, n)
	x := uint32(len(seed)) + 1
	for _, c := range seed {
		x = x*31 + uint32(c)
	}
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return string(b)
}

// mustHold checks that the root file system of an image has the bytes.
func mustHold(t testing.TB, im *Image, want string) {
	t.Helper()
	b, err := os.ReadFile(im.Rootfs)
	if err != nil {
		t.Fatalf("rootfs: %v", err)
	}
	if !bytes.Contains(b, []byte(want)) {
		t.Errorf("rootfs of %s: does not hold %q", im.Ref, want)
	}
}

// mustBeWhole checks what every store promises at rest: names stand for their
// content, the index names only what is here, and nothing is left in tmp but
// partial downloads.
func mustBeWhole(t testing.TB, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.path("blobs", "sha256"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(s.path("blobs", "sha256", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if got := digestOf(b).Hex; got != e.Name() {
			t.Errorf("blob %s has digest %s", e.Name(), got)
		}
	}
	index, err := s.readIndex()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range index.Manifests {
		if _, err := s.image(d); err != nil {
			t.Errorf("image %q: %v", d.Annotations[refAnnotation], err)
		}
		m, cf, err := s.manifest(d.Digest)
		if err != nil {
			t.Errorf("image %q: %v", d.Annotations[refAnnotation], err)
			continue
		}
		for _, l := range s.layers(m, cf) {
			f, err := l.open()
			if err != nil {
				t.Errorf("image %q: %v", d.Annotations[refAnnotation], err)
				continue
			}
			f.Close()
		}
	}
}

func leftovers(t testing.TB, s *Store) []string {
	t.Helper()
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if live, _ := hostos.Locked(filepath.Join(s.path("tmp"), e.Name())); !live {
			out = append(out, e.Name())
		}
	}
	return out
}

func mustPull(t testing.TB, s *Store, ref string) *Image {
	t.Helper()
	im, err := s.Pull(t.Context(), ref, PullOptions{})
	if err != nil {
		t.Fatalf("pull %s: %v", ref, err)
	}
	return im
}

func refs(images []*Image) string {
	var out []string
	for _, im := range images {
		out = append(out, im.Ref)
	}
	return fmt.Sprint(out)
}
