package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Remove takes a reference away, and the image with the last of them; a digest
// or id takes all references of the image away. The error is [ErrInUse] when
// the image would go and inUse, if not nil, says so of its digest. Pulls that
// run keep what they need. It returns the bytes freed on disk.
func (s *Store) Remove(ctx context.Context, ref string, inUse func(digest string) bool) (freed int64, err error) {
	index, err := s.readIndex()
	if err != nil {
		return 0, err
	}
	found, err := s.find(index, ref)
	if err != nil {
		return 0, err
	}
	if digest := found[0].Digest; inUse != nil && count(index, digest) == len(found) && inUse(digest.String()) {
		return 0, fmt.Errorf("%w: a box was made from %q; remove the box first", ErrInUse, ref)
	}
	return s.drop(func(d v1.Descriptor) bool { return slices.ContainsFunc(found, same(d)) })
}

func count(index *v1.IndexManifest, digest v1.Hash) (n int) {
	for _, d := range index.Manifests {
		if d.Digest == digest {
			n++
		}
	}
	return n
}

// same tells entries with the digest and reference of d.
func same(d v1.Descriptor) func(v1.Descriptor) bool {
	return func(e v1.Descriptor) bool {
		return d.Digest == e.Digest && d.Annotations[refAnnotation] == e.Annotations[refAnnotation]
	}
}

// Prune removes the images for which keep is false, or those without a
// reference if keep is nil, and what nothing needs: blobs, root file systems,
// leftovers of interrupted work. It returns what it removed, and the bytes
// freed on disk.
func (s *Store) Prune(ctx context.Context, keep func(*Image) bool) (removed []*Image, freed int64, err error) {
	if keep == nil {
		keep = func(im *Image) bool { return im.Ref != "" }
	}
	index, err := s.readIndex()
	if err != nil {
		return nil, 0, err
	}
	var gone []v1.Descriptor
	for _, d := range index.Manifests {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		im, err := s.image(d)
		switch {
		case err == nil && keep(im):
			continue
		case err == nil:
			removed = append(removed, im)
		case !broken(err):
			return nil, 0, err
		}
		gone = append(gone, d)
	}
	freed = s.sweep(0)
	n, err := s.drop(func(d v1.Descriptor) bool { return slices.ContainsFunc(gone, same(d)) })
	return removed, freed + n, err
}

// broken tells images that can never work again as they are, from those that
// could not be read just now.
func broken(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return !ok || notExist(err)
}

// drop takes entries out of the index and collects what nothing needs any more.
func (s *Store) drop(gone func(v1.Descriptor) bool) (freed int64, err error) {
	unlock, err := s.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	err = s.changeIndexLocked(func(index *v1.IndexManifest) {
		index.Manifests = slices.DeleteFunc(index.Manifests, gone)
	})
	if err != nil {
		return 0, err
	}
	return s.collectLocked()
}

func (s *Store) collectLocked() (freed int64, err error) {
	needed, err := s.pinnedLocked()
	if err != nil {
		return 0, err
	}
	index, err := s.readIndex()
	if err != nil {
		return 0, err
	}
	for _, d := range index.Manifests {
		if err := s.mark(d, needed); err != nil {
			return 0, fmt.Errorf("collect: %w", err)
		}
	}
	for _, dir := range []string{s.path("blobs", "sha256"), s.path("rootfs")} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return freed, err
		}
		for _, e := range entries {
			hex, _, _ := strings.Cut(e.Name(), ".")
			st, err := e.Info()
			if needed[hex] || err != nil {
				continue
			}
			// A box that runs has the file open; it goes with the box.
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return freed, err
			}
			freed += diskSize(st)
		}
	}
	if freed > 0 {
		s.log.Debug("images collected", slog.Int64("bytes", freed))
	}
	return freed, nil
}

// mark adds what an entry needs.
func (s *Store) mark(d v1.Descriptor, needed map[string]bool) error {
	needed[d.Digest.Hex] = true
	b, err := s.readBlob(d.Digest, maxManifest)
	if err != nil {
		if broken(err) {
			return nil
		}
		return err
	}
	m, err := parseManifest(b)
	if err != nil {
		return nil //nolint:nilerr // an image that cannot be read needs nothing
	}
	needed[m.Config.Digest.Hex] = true
	for _, l := range m.Layers {
		needed[l.Digest.Hex] = true
	}
	return nil
}
