package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Annotations of the manifests in index.json.
const (
	refAnnotation    = "org.opencontainers.image.ref.name"
	pulledAnnotation = "io.boxlite.image.pulled" // RFC 3339
)

func digestOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// diskSize is what a file occupies, in bytes.
func diskSize(st fs.FileInfo) int64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Blocks * 512
	}
	return st.Size()
}

func (s *Store) readIndex() (*v1.IndexManifest, error) {
	b, err := os.ReadFile(s.path("index.json"))
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("image store: %s: %w", s.path("index.json"), err)
	}
	return index, nil
}

// changeIndexLocked replaces index.json by what change makes of it. The blobs
// it names must be on stable storage, up to the names in their directories.
func (s *Store) changeIndexLocked(change func(*v1.IndexManifest)) error {
	index, err := s.readIndex()
	if err != nil {
		return err
	}
	change(index)
	if index.Manifests == nil {
		index.Manifests = []v1.Descriptor{}
	}
	return storeErr(hostos.WriteFileAtomic(s.path("index.json"), mustJSON(index), 0o600))
}

// record makes ref name the manifest, or keeps the manifest without a name if
// ref is empty. What ref named before stays without a name if nothing else
// names it: a box may have been made from it.
func record(index *v1.IndexManifest, ref string, d v1.Descriptor, now time.Time) {
	if ref == "" && named(index, d.Digest, "") {
		return
	}
	kept := make([]v1.Descriptor, 0, len(index.Manifests)+1)
	for _, old := range index.Manifests {
		oldRef := old.Annotations[refAnnotation]
		switch {
		case old.Digest == d.Digest && (oldRef == ref || oldRef == ""):
			continue
		case ref != "" && oldRef == ref:
			if named(index, old.Digest, ref) {
				continue
			}
			delete(old.Annotations, refAnnotation)
		}
		kept = append(kept, old)
	}
	index.Manifests = append(kept, annotated(d, ref, now))
}

// annotated is an entry of the index.
func annotated(d v1.Descriptor, ref string, now time.Time) v1.Descriptor {
	d.Annotations = map[string]string{pulledAnnotation: now.UTC().Format(time.RFC3339)}
	if ref != "" {
		d.Annotations[refAnnotation] = ref
	}
	return d
}

// named tells whether another reference names a manifest.
func named(index *v1.IndexManifest, digest v1.Hash, but string) bool {
	for _, d := range index.Manifests {
		if ref := d.Annotations[refAnnotation]; d.Digest == digest && ref != but && ref != "" {
			return true
		}
	}
	return false
}

// image describes an entry of the index.
func (s *Store) image(d v1.Descriptor) (*Image, error) {
	if err := checkBlob(d, maxManifest); err != nil {
		return nil, err
	}
	m, cf, err := s.manifest(d.Digest)
	if err != nil {
		return nil, err
	}
	im := &Image{
		Ref: familiar(d.Annotations[refAnnotation]), Digest: d.Digest.String(), ConfigDigest: m.Config.Digest.String(),
		Rootfs: s.rootfsPath(m.Config.Digest), Size: d.Size + m.Config.Size, Layers: len(m.Layers),
		Created: cf.Created.Time, Config: runConfig(cf.Config),
		Platform: v1.Platform{OS: cf.OS, Architecture: cf.Architecture, Variant: cf.Variant}.String(),
	}
	for _, l := range m.Layers {
		im.Size += l.Size
	}
	im.Pulled, _ = time.Parse(time.RFC3339, d.Annotations[pulledAnnotation])
	if st, err := os.Stat(im.Rootfs); err == nil {
		im.RootfsSize = diskSize(st)
	}
	return im, nil
}

// syncNames makes what was renamed into the store durable.
func (s *Store) syncNames() error {
	for _, d := range []string{filepath.Join("blobs", "sha256"), "rootfs"} {
		if err := hostos.SyncDir(s.path(d)); err != nil {
			return storeErr(err)
		}
	}
	return nil
}

// commit makes ref name a manifest. Its blobs and root file system are in
// place, or put there by place, and safe from collection until then.
func (s *Store) commit(ref string, manifest []byte, mt types.MediaType, place func() error) (*Image, error) {
	d := v1.Descriptor{MediaType: mt, Size: int64(len(manifest)), Digest: digestOf(manifest), Platform: s.platform}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if place != nil {
		if err := place(); err != nil {
			return nil, storeErr(err)
		}
	}
	if err := s.syncNames(); err != nil {
		return nil, err
	}
	now := time.Now()
	err = s.changeIndexLocked(func(index *v1.IndexManifest) { record(index, ref, d, now) })
	if err != nil {
		return nil, err
	}
	return s.image(annotated(d, ref, now))
}
