package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

// dockerArchive is what "docker save" writes.
func dockerArchive(t testing.TB, images map[string]v1.Image) []byte {
	t.Helper()
	tags := make(map[name.Tag]v1.Image)
	for ref, img := range images {
		tag, err := name.NewTag(ref)
		if err != nil {
			t.Fatal(err)
		}
		tags[tag] = img
	}
	var b bytes.Buffer
	if err := tarball.MultiWrite(tags, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLoadDockerArchive(t *testing.T) {
	one, two := simple(t, "one", 1000), simple(t, "two", 1000)
	plain := dockerArchive(t, map[string]v1.Image{"one:1": one, "one:latest": one, "ghcr.io/x/two:2": two})
	z, _ := zstd.NewWriter(nil)
	for _, tt := range []struct {
		name string
		b    []byte
	}{{"plain", plain}, {"gzip", zip(t, plain)}, {"zstd", z.EncodeAll(plain, nil)}} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "archive")
			if err := os.WriteFile(path, tt.b, 0o600); err != nil {
				t.Fatal(err)
			}
			s := testStore(t, linux(Config{}))
			images, err := s.Load(t.Context(), path, LoadOptions{})
			if err != nil || len(images) != 2 {
				t.Fatalf("Load: got %s, %v, want two images", refs(images), err)
			}
			for ref, img := range map[string]v1.Image{"one:1": one, "one": one, "ghcr.io/x/two:2": two} {
				id, _ := img.ConfigName()
				im, err := s.Image(t.Context(), ref)
				if err != nil || im.ConfigDigest != id.String() {
					t.Errorf("Image(%q): got %+v, %v, want id %s", ref, im, err, id)
				}
			}
			im, _ := s.Image(t.Context(), "one")
			mustHold(t, im, "of one")
			mustBeWhole(t, s)
			if got := leftovers(t, s); got != nil {
				t.Errorf("left in tmp: %v", got)
			}
		})
	}
}

// TestLoadOldDockerArchive has layers as links to others, and the names of old.
func TestLoadOldDockerArchive(t *testing.T) {
	layer := content(t, "etc/old", "is here")
	img := imageOf(t, layerOf(t, layer, "application/vnd.docker.image.rootfs.diff.tar"), layerOf(t, layer, "application/vnd.docker.image.rootfs.diff.tar"))
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	id, _ := img.ConfigName()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, body string) {
		h.Size, h.Mode = int64(len(body)), 0o644
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, body)
	}
	add(tar.Header{Name: "aaa/layer.tar", Typeflag: tar.TypeReg}, string(layer))
	add(tar.Header{Name: "bbb/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../aaa/layer.tar"}, "")
	add(tar.Header{Name: id.Hex + ".json", Typeflag: tar.TypeReg}, string(config))
	add(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, `[{"Config":"`+id.Hex+`.json","RepoTags":["old:1"],"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`)
	w.Close()
	s := testStore(t, linux(Config{}))
	if _, err := s.LoadFrom(t.Context(), &b, LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	im, err := s.Image(t.Context(), "old:1")
	if err != nil || im.ConfigDigest != id.String() {
		t.Fatalf("Image: got %+v, %v", im, err)
	}
	mustHold(t, im, "is here")
}

func TestLoadLayout(t *testing.T) {
	img := simple(t, "laid out", 1000)
	digest, _ := img.Digest()
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendImage(img, layout.WithAnnotations(map[string]string{refAnnotation: "ghcr.io/x/y:1"})); err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: simple(t, "in an index", 10), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: testArch}}})
	if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": "docker.io/library/indexed:2", refAnnotation: "2"})); err != nil {
		t.Fatal(err)
	}
	s := testStore(t, linux(Config{}))
	images, err := s.Load(t.Context(), dir, LoadOptions{})
	if err != nil || refs(images) != "[ghcr.io/x/y:1 indexed:2]" || images[0].Digest != digest.String() {
		t.Fatalf("Load: got %s, %v", refs(images), err)
	}
	mustHold(t, images[0], "of laid out")
	mustHold(t, images[1], "of in an index")
	mustBeWhole(t, s)
	if _, err := s.Load(t.Context(), dir, LoadOptions{Ref: "x:1"}); err == nil {
		t.Error("Load of two images under one name: got nil, want an error")
	}
	// The store is a layout itself.
	other := testStore(t, linux(Config{}))
	if images, err := other.Load(t.Context(), s.dir, LoadOptions{}); err != nil || len(images) != 2 {
		t.Errorf("Load of a store: got %s, %v", refs(images), err)
	}
	blob := filepath.Join(dir, "blobs", "sha256")
	entries, _ := os.ReadDir(blob)
	for _, e := range entries { // damage all
		os.Chmod(filepath.Join(blob, e.Name()), 0o600)
		os.WriteFile(filepath.Join(blob, e.Name()), []byte("{}"), 0o600)
	}
	if _, err := testStore(t, linux(Config{})).Load(t.Context(), dir, LoadOptions{}); !errors.Is(err, ErrDigest) {
		t.Errorf("Load of a damaged layout: got %v, want ErrDigest", err)
	}
}

func TestSaveAndLoadKeepImages(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 1000))
	h.push(t, "b:1", simple(t, "b", 1000))
	s := testStore(t, linux(Config{}))
	a, b := mustPull(t, s, h.host+"/a:1"), mustPull(t, s, h.host+"/b:1")
	for _, f := range []Format{FormatDocker, FormatOCI} {
		var out, again bytes.Buffer
		for _, w := range []*bytes.Buffer{&out, &again} {
			if err := s.Save(t.Context(), w, []string{a.Ref, b.Ref, a.Ref}, f); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(out.Bytes(), again.Bytes()) {
			t.Errorf("format %d: two archives of the same images differ", f)
		}
		archive := slices.Clone(out.Bytes())
		other := testStore(t, linux(Config{}))
		if _, err := other.LoadFrom(t.Context(), &out, LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, want := range []*Image{a, b} {
			im, err := other.Image(t.Context(), want.Ref)
			if err != nil || im.Digest != want.Digest || im.ConfigDigest != want.ConfigDigest {
				t.Errorf("format %d: Image(%q): got %+v, %v, want %s", f, want.Ref, im, err, want.Digest)
			}
		}
		if f == FormatDocker {
			readByOthers(t, archive, a)
		}
	}
	if err := s.Save(t.Context(), io.Discard, []string{"none:1"}, FormatOCI); !errors.Is(err, ErrNotFound) {
		t.Errorf("Save of what is not here: got %v, want ErrNotFound", err)
	}
}

// readByOthers has another implementation read what docker should.
func readByOthers(t *testing.T, archive []byte, want *Image) {
	t.Helper()
	tag, err := name.NewTag(want.Ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.Image(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }, &tag)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := img.ConfigName(); err != nil || id.String() != want.ConfigDigest {
		t.Errorf("read by another tool: got %s, %v, want %s", id, err, want.ConfigDigest)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != want.Layers {
		t.Fatalf("read by another tool: got %d layers, %v, want %d", len(layers), err, want.Layers)
	}
	r, err := layers[1].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || !bytes.Contains(b, []byte("of a")) {
		t.Errorf("read by another tool: the layer is not what was saved (%v)", err)
	}
}

func TestImport(t *testing.T) {
	s := testStore(t, linux(Config{}))
	plain := content(t, "etc/imported", "from a tar")
	z, _ := zstd.NewWriter(nil)
	config := ImageConfig{Entrypoint: []string{"/init"}, Env: []string{"A=b"}, WorkingDir: "/w", ExposedPorts: []string{"80/tcp"}, Volumes: []string{"/v"}}
	for ref, b := range map[string][]byte{"plain:1": plain, "gz:1": zip(t, plain), "zstd:1": z.EncodeAll(plain, nil), "": plain} {
		im, err := s.Import(t.Context(), bytes.NewReader(b), ref, ImportOptions{Config: config})
		if err != nil || im.Layers != 1 || im.Ref != ref || im.Config.Entrypoint[0] != "/init" || im.Config.Volumes[0] != "/v" || im.Created.IsZero() {
			t.Fatalf("Import(%q): got %+v, %v", ref, im, err)
		}
		mustHold(t, im, "from a tar")
	}
	mustBeWhole(t, s)
	for _, tt := range []struct {
		name, ref string
		b         []byte
		want      error
	}{
		{"reference", "Not Valid", plain, ErrInvalidReference},
		{"digest", "a@sha256:" + strings.Repeat("0", 64), plain, ErrInvalidReference},
		{"hostile", "x:1", content(t, "../out", "x"), ErrHostile},
		{"no tar", "x:1", []byte(strings.Repeat("no tar at all ", 100)), ErrHostile},
	} {
		if _, err := s.Import(t.Context(), bytes.NewReader(tt.b), tt.ref, ImportOptions{}); !errors.Is(err, tt.want) {
			t.Errorf("Import of a bad %s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	if got := leftovers(t, s); got != nil {
		t.Errorf("left in tmp: %v", got)
	}
}

func TestImportDir(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "usr/bin"), 0o755),
		os.WriteFile(filepath.Join(dir, "usr/bin/tool"), []byte("a tool"), 0o755),
		os.Link(filepath.Join(dir, "usr/bin/tool"), filepath.Join(dir, "usr/bin/tool2")),
		os.Symlink("usr/bin", filepath.Join(dir, "bin")),
		os.Symlink("/etc/passwd", filepath.Join(dir, "out")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := testStore(t, linux(Config{}))
	im, err := s.ImportDir(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, im, "a tool")
	again, err := s.ImportDir(t.Context(), dir, "named:1")
	if err != nil || again.Digest != im.Digest || again.Ref != "named:1" {
		t.Errorf("ImportDir of the same files: got %+v, %v, want %s", again, err, im.Digest)
	}
	if host, err := os.ReadFile("/etc/passwd"); err == nil {
		if b, _ := os.ReadFile(im.Rootfs); bytes.Contains(b, host) {
			t.Error("ImportDir followed a link out of the directory")
		}
	}
	if _, err := s.ImportDir(t.Context(), filepath.Join(dir, "none"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ImportDir of nothing: got %v, want ErrNotExist", err)
	}
}

func TestLoadRefusesWhatIsNoImage(t *testing.T) {
	s := testStore(t, linux(Config{MaxEntries: 100}))
	manifest := func(table string, more ...string) []byte {
		return content(t, append([]string{"manifest.json", table}, more...)...)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		text string
	}{
		{"text", []byte("hello"), ""},
		{"empty", nil, "neither index.json nor manifest.json"},
		{"root file system", content(t, "etc/passwd", "root"), "use import"},
		{"table", manifest("{"), "manifest.json"},
		{"missing configuration", manifest(`[{"Config":"x.json","Layers":[]}]`), "x.json"},
		{"missing layer", manifest(`[{"Config":"x.json","Layers":["l"]}]`, "x.json", `{"rootfs":{"type":"layers","diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`), `"l"`},
		{"wrong layer", manifest(`[{"Config":"x.json","Layers":["l"]}]`, "x.json", `{"rootfs":{"type":"layers","diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`, "l", string(content(t, "f", "x"))), "digest"},
		{"empty layout", content(t, "index.json", `{"schemaVersion":2,"manifests":[]}`), "no image"},
		{"path as digest", content(t, "index.json", `{"manifests":[{"digest":"sha256:../../etc/passwd"}]}`), "index.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := s.LoadFrom(t.Context(), bytes.NewReader(tt.b), LoadOptions{})
			if err == nil || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("LoadFrom: got %v, want an error with %q", err, tt.text)
			}
			if got := leftovers(t, s); got != nil {
				t.Errorf("left in tmp: %v", got)
			}
		})
	}
}
