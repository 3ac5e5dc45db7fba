package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// LoadOptions are those of a load. The zero value is right.
type LoadOptions struct {
	// Ref names the image in place of what the archive says, which must then
	// hold one image.
	Ref string
}

// Load takes images from an archive as "docker save" writes it or an OCI
// layout: a directory, or a tar, plain or compressed.
func (s *Store) Load(ctx context.Context, path string, o LoadOptions) ([]*Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		defer root.Close()
		return s.loadArchive(ctx, dirArchive{root}, o)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.LoadFrom(ctx, f, o)
}

// LoadFrom is Load of an archive from r.
func (s *Store) LoadFrom(ctx context.Context, r io.Reader, o LoadOptions) ([]*Image, error) {
	plain, stop, err := decompress(ctxReader{ctx, r})
	if err != nil {
		return nil, err
	}
	defer stop()
	// Members are needed in another order than they come in.
	b, err := s.stage(ctx, plain)
	if err != nil {
		return nil, err
	}
	defer b.discard()
	a, err := readTarArchive(b.File, s.c.MaxEntries)
	if err != nil {
		return nil, err
	}
	return s.loadArchive(ctx, a, o)
}

// archive is a set of files.
type archive interface {
	// open returns fs.ErrNotExist if the file is not there.
	open(name string) (io.ReadCloser, error)
}

// slurp reads a small file of an archive.
func slurp(a archive, name string, limit int64) ([]byte, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%w: %s has more than %d bytes", ErrHostile, name, limit)
	}
	return b, err
}

// candidate is an image of an archive that is not read yet.
type candidate struct {
	refs []string // full
	read func(context.Context) (*arrival, error)
}

func (s *Store) loadArchive(ctx context.Context, a archive, o LoadOptions) ([]*Image, error) {
	found, err := s.candidatesOf(a)
	if err != nil {
		return nil, err
	}
	if o.Ref != "" {
		ref, err := ParseReference(o.Ref)
		if err != nil {
			return nil, err
		}
		if len(found) != 1 {
			return nil, fmt.Errorf("load as %q: the archive holds %d images, want 1", o.Ref, len(found))
		}
		found[0].refs = []string{ref.Full()}
	}
	images := make([]*Image, 0, len(found))
	for _, c := range found {
		im, err := s.loadOne(ctx, c)
		if err != nil {
			return images, err
		}
		images = append(images, im)
	}
	return images, nil
}

func (s *Store) loadOne(ctx context.Context, c candidate) (*Image, error) {
	a, err := c.read(ctx)
	if err != nil {
		return nil, storeErr(err)
	}
	defer a.discard()
	rootfs, _, err := s.unpack(ctx, a.unpackable())
	if err != nil {
		return nil, err
	}
	defer rootfs.discard()
	return s.admit(a, rootfs, c.refs)
}

// candidatesOf reads the tables of an archive. Where it has both, the layout
// goes before docker's: it keeps the digests of the registry.
func (s *Store) candidatesOf(a archive) ([]candidate, error) {
	tags, err := readDockerTable(a)
	if err != nil && !notExist(err) {
		return nil, err
	}
	b, err := slurp(a, "index.json", maxManifest)
	switch {
	case err == nil:
		return s.layoutCandidates(a, b, tags)
	case !notExist(err):
		return nil, err
	case tags == nil:
		return nil, errors.New("no image archive: neither index.json nor manifest.json is in it; use import for the tar of a root file system")
	}
	return s.dockerCandidates(a, tags)
}

// layoutCandidates are the images of an OCI layout for our platform.
func (s *Store) layoutCandidates(a archive, b []byte, tags []dockerImage) ([]candidate, error) {
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) > maxLayers {
		return nil, fmt.Errorf("%w: index.json lists %d images, at most %d", ErrHostile, len(index.Manifests), maxLayers)
	}
	var out []candidate
	byDigest := make(map[v1.Hash]int)
	var skipped error
	for _, d := range index.Manifests {
		mb, mt, err := s.layoutManifest(a, d)
		if errors.Is(err, ErrPlatform) || notExist(err) {
			skipped = err
			continue
		}
		if err != nil {
			return nil, err
		}
		h := digestOf(mb)
		i, seen := byDigest[h]
		if !seen {
			i = len(out)
			byDigest[h] = i
			out = append(out, candidate{read: func(ctx context.Context) (*arrival, error) { return s.readLayout(ctx, a, mb, mt) }})
		}
		out[i].refs = append(out[i].refs, layoutRefs(d, mb, tags)...)
	}
	if len(out) == 0 {
		if skipped != nil {
			return nil, skipped
		}
		return nil, errors.New("the layout holds no image")
	}
	return out, nil
}

// layoutRefs are the names of an image in a layout. The standard annotation is
// last: many tools put a bare tag there.
func layoutRefs(d v1.Descriptor, manifest []byte, tags []dockerImage) []string {
	if r, err := ParseReference(d.Annotations["io.containerd.image.name"]); err == nil {
		return []string{r.Full()}
	}
	if m, err := parseManifest(manifest); err == nil {
		for _, t := range tags {
			if refs := t.refs(); t.configHex() == m.Config.Digest.Hex && len(refs) > 0 {
				return refs
			}
		}
	}
	if r, err := ParseReference(d.Annotations[refAnnotation]); err == nil {
		return []string{r.Full()}
	}
	return nil
}

// layoutManifest gets the manifest of an entry, through an index if it is one.
func (s *Store) layoutManifest(a archive, d v1.Descriptor) ([]byte, types.MediaType, error) {
	for range 3 { // an index in an index is as deep as tools go
		if err := checkBlob(d, maxManifest); err != nil {
			return nil, "", err
		}
		b, err := verified(a, d.Digest, maxManifest)
		if err != nil {
			return nil, "", err
		}
		next, err := fromIndex(b, d.MediaType, s.platform)
		if err != nil {
			return nil, "", err
		}
		if next == nil {
			return b, manifestType(b, d.MediaType), nil
		}
		d = *next
	}
	return nil, "", fmt.Errorf("%w: index within index within index", ErrHostile)
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// verified reads a small blob of a layout and checks it.
func verified(a archive, h v1.Hash, limit int64) ([]byte, error) {
	b, err := slurp(a, blobName(h), limit)
	if err != nil {
		return nil, err
	}
	if got := digestOf(b); got != h {
		return nil, fmt.Errorf("blob %s: %w: got %s", short(h.String()), ErrDigest, got)
	}
	return b, nil
}

// readLayout brings an image of a layout into tmp.
func (s *Store) readLayout(ctx context.Context, a archive, manifest []byte, mt types.MediaType) (*arrival, error) {
	m, err := parseManifest(manifest)
	if err != nil {
		return nil, err
	}
	in := &arrival{manifest: manifest, mt: mt}
	if in.config, err = verified(a, m.Config.Digest, maxConfig); err != nil {
		return nil, err
	}
	cf, err := parseConfig(in.config, m)
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(cf, s.platform); err != nil {
		return nil, err
	}
	in.diffs = cf.RootFS.DiffIDs
	for _, l := range m.Layers {
		b, err := s.stageFile(ctx, a, blobName(l.Digest))
		if err == nil && b.digest != l.Digest {
			b.discard()
			err = fmt.Errorf("blob %s: %w: got %s", short(l.Digest.String()), ErrDigest, b.digest)
		}
		if err != nil {
			in.discard()
			return nil, err
		}
		in.layers = append(in.layers, b)
	}
	return in, nil
}

func (s *Store) stageFile(ctx context.Context, a archive, name string) (*staged, error) {
	f, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return s.stage(ctx, f)
}

// dockerImage is one in the manifest.json of "docker save".
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func readDockerTable(a archive) ([]dockerImage, error) {
	b, err := slurp(a, "manifest.json", maxManifest)
	if err != nil {
		return nil, err
	}
	var images []dockerImage
	if err := json.Unmarshal(b, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(images) > maxLayers {
		return nil, fmt.Errorf("%w: manifest.json lists %d images, at most %d", ErrHostile, len(images), maxLayers)
	}
	return images, nil
}

func (d dockerImage) refs() []string {
	var out []string
	for _, t := range d.RepoTags {
		if r, err := ParseReference(t); err == nil {
			out = append(out, r.Full())
		}
	}
	return out
}

// configHex is the image id, which the name of the configuration is made of.
func (d dockerImage) configHex() string {
	if id := idRE.FindStringSubmatch(trimPath(d.Config)); id != nil {
		return id[1]
	}
	return ""
}

func (s *Store) dockerCandidates(a archive, images []dockerImage) ([]candidate, error) {
	out := make([]candidate, len(images))
	for i, d := range images {
		if len(d.Layers) > maxLayers {
			return nil, fmt.Errorf("%w: %d layers, at most %d", ErrHostile, len(d.Layers), maxLayers)
		}
		out[i] = candidate{d.refs(), func(ctx context.Context) (*arrival, error) { return s.readDocker(ctx, a, d) }}
	}
	return out, nil
}

// readDocker brings an image of a docker archive into tmp, its configuration
// as it is: the image id stays what docker shows.
func (s *Store) readDocker(ctx context.Context, a archive, d dockerImage) (*arrival, error) {
	config, err := slurp(a, d.Config, maxConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration %q: %w", d.Config, err)
	}
	cf, err := parseConfig(config, &v1.Manifest{Layers: make([]v1.Descriptor, len(d.Layers))})
	if err != nil {
		return nil, err
	}
	if err := checkPlatform(cf, s.platform); err != nil {
		return nil, err
	}
	in := &arrival{mt: types.DockerManifestSchema2, config: config, diffs: cf.RootFS.DiffIDs}
	kinds := make([]types.MediaType, len(d.Layers))
	for i, name := range d.Layers {
		b, err := s.stageFile(ctx, a, name)
		if err != nil {
			in.discard()
			return nil, fmt.Errorf("layer %q: %w", name, err)
		}
		in.layers = append(in.layers, b)
		if kinds[i], err = b.layerType(); err != nil {
			in.discard()
			return nil, err
		}
	}
	in.describe(types.DockerConfigJSON, dockerTypes(kinds))
	return in, nil
}

func dockerTypes(kinds []types.MediaType) []types.MediaType {
	for i, k := range kinds {
		switch k {
		case types.OCILayer:
			kinds[i] = types.DockerLayer
		case types.OCILayerZStd:
			kinds[i] = dockerZstd
		default:
			kinds[i] = types.DockerUncompressedLayer
		}
	}
	return kinds
}

// dirArchive is a directory of the host.
type dirArchive struct{ root *os.Root }

func (d dirArchive) open(name string) (io.ReadCloser, error) {
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%w: file %q of a layout", ErrHostile, name)
	}
	return d.root.Open(name)
}
