package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Format is that of a saved archive.
type Format int

// Formats. The first is an OCI layout too, with the table that docker wants
// beside it, as docker itself has it since version 25.
const (
	FormatDocker Format = iota // docker load, podman load, Load
	FormatOCI                  // OCI layout in a tar
)

// Save writes images as an archive. The same images make the same archive.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, f Format) error {
	if len(refs) == 0 {
		return errors.New("save: name at least one image")
	}
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	a := &saver{s: s, tw: tar.NewWriter(w), written: make(map[v1.Hash]bool), index: v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{},
	}}
	for _, ref := range refs {
		found, err := s.find(index, ref)
		if err != nil {
			return err
		}
		if err := a.add(ctx, found[0]); err != nil {
			return fmt.Errorf("save %q: %w", ref, err)
		}
	}
	if err := a.file("index.json", mustJSON(a.index)); err != nil {
		return err
	}
	if err := a.file("oci-layout", []byte(layoutFile)); err != nil {
		return err
	}
	if f == FormatDocker {
		if err := a.file("manifest.json", mustJSON(a.docker)); err != nil {
			return err
		}
	}
	return a.tw.Close()
}

type saver struct {
	s       *Store
	tw      *tar.Writer
	written map[v1.Hash]bool
	index   v1.IndexManifest
	docker  []dockerImage
}

func (a *saver) add(ctx context.Context, d v1.Descriptor) error {
	mb, err := a.s.readBlob(d.Digest, maxManifest)
	if err != nil {
		return err
	}
	m, err := parseManifest(mb)
	if err != nil {
		return err
	}
	for _, b := range append([]v1.Descriptor{d, m.Config}, m.Layers...) {
		if err := a.blob(ctx, b); err != nil {
			return err
		}
	}
	full := d.Annotations[refAnnotation]
	d.Annotations = nil
	if full != "" {
		d.Annotations = map[string]string{refAnnotation: full, "io.containerd.image.name": full}
	}
	a.index.Manifests = append(a.index.Manifests, d)
	a.list(m, full)
	return nil
}

// list adds an image to docker's table, or a name to one that is there.
func (a *saver) list(m *v1.Manifest, full string) {
	config := blobName(m.Config.Digest)
	i := slices.IndexFunc(a.docker, func(d dockerImage) bool { return d.Config == config })
	if i < 0 {
		i = len(a.docker)
		a.docker = append(a.docker, dockerImage{Config: config, Layers: []string{}})
		for _, l := range m.Layers {
			a.docker[i].Layers = append(a.docker[i].Layers, blobName(l.Digest))
		}
	}
	if full != "" && !strings.Contains(full, "@") { // docker has tags only
		a.docker[i].RepoTags = append(a.docker[i].RepoTags, familiar(full))
	}
}

func (a *saver) blob(ctx context.Context, d v1.Descriptor) error {
	if a.written[d.Digest] {
		return nil
	}
	a.written[d.Digest] = true
	f, err := os.Open(a.s.blobPath(d.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return a.copy(blobName(d.Digest), ctxReader{ctx, f}, st.Size())
}

func (a *saver) file(name string, b []byte) error {
	return a.copy(name, bytes.NewReader(b), int64(len(b)))
}

func (a *saver) copy(name string, r io.Reader, size int64) error {
	if err := a.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	_, err := io.CopyN(a.tw, r, size)
	return err
}
