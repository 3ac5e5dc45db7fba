package image

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/boxlite-go/boxlite/internal/pattern"
)

// Image finds an image that is here by reference, digest, image id, or a
// unique beginning of one of these two, at least four digits. It makes the
// root file system if that is missing. The error is [ErrNotFound] or
// [ErrInvalidReference].
func (s *Store) Image(ctx context.Context, ref string) (*Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	found, err := s.find(index, ref)
	if err != nil {
		return nil, err
	}
	im, err := s.image(found[0])
	if err != nil {
		return nil, fmt.Errorf("image %q: %w", ref, err)
	}
	if err := s.rootfs(ctx, im); err != nil {
		return nil, err
	}
	return im, nil
}

// Images lists what is here, the newest first. It makes no root file systems.
func (s *Store) Images(ctx context.Context) ([]*Image, error) {
	index, err := s.readIndex()
	if err != nil {
		return nil, err
	}
	images := make([]*Image, 0, len(index.Manifests))
	for _, d := range index.Manifests {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		im, err := s.image(d)
		if err != nil {
			s.log.Warn("image is broken", slog.String("image", d.Annotations[refAnnotation]), slog.Any("err", err))
			continue
		}
		images = append(images, im)
	}
	slices.Reverse(images)
	return images, nil
}

var idRE = pattern.New(`^(?:sha256:)?([0-9a-f]{4,64})$`)

// find returns the entries that ref means: one for a reference, all of an
// image for a digest. There is at least one when the error is nil.
func (s *Store) find(index *v1.IndexManifest, ref string) ([]v1.Descriptor, error) {
	r, bad := ParseReference(ref)
	if bad == nil {
		for _, c := range s.c.candidates(r) {
			if found := byReference(index, c); found != nil {
				return found, nil
			}
		}
	}
	if id := idRE.FindStringSubmatch(ref); id != nil {
		found, err := s.byID(index, ref, id[1])
		if err != nil || found != nil {
			return found, err
		}
	} else if bad != nil {
		return nil, bad
	}
	return nil, fmt.Errorf("%w: %q; pull or load it first", ErrNotFound, ref)
}

func byReference(index *v1.IndexManifest, r Reference) []v1.Descriptor {
	for _, d := range index.Manifests {
		if d.Annotations[refAnnotation] == r.Full() {
			return []v1.Descriptor{d}
		}
	}
	if r.Digest() == "" {
		return nil
	}
	for _, d := range index.Manifests {
		if full := d.Annotations[refAnnotation]; d.Digest.String() == r.Digest() && (full == "" || strings.HasPrefix(full, r.repository()+":") || strings.HasPrefix(full, r.repository()+"@")) {
			return []v1.Descriptor{d}
		}
	}
	return nil
}

func (s *Store) byID(index *v1.IndexManifest, ref, id string) ([]v1.Descriptor, error) {
	var found []v1.Descriptor
	for _, d := range index.Manifests {
		match := strings.HasPrefix(d.Digest.Hex, id)
		if !match {
			im, err := s.image(d)
			match = err == nil && strings.HasPrefix(im.ConfigDigest, "sha256:"+id)
		}
		if !match {
			continue
		}
		if len(found) > 0 && found[0].Digest != d.Digest {
			return nil, fmt.Errorf("%w: %q is the beginning of several image ids; write more of it", ErrInvalidReference, ref)
		}
		found = append(found, d)
	}
	return found, nil
}
