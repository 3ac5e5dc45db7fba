package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// staged is a blob in tmp, complete and synced, that gets its name only with
// the whole image.
type staged struct {
	*temp
	digest v1.Hash
	size   int64
}

// stage copies r into tmp. It refuses more than the store takes of one image.
func (s *Store) stage(ctx context.Context, r io.Reader) (*staged, error) {
	t, err := s.temp("stage-*")
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(t, sum), io.LimitReader(ctxReader{ctx, r}, s.c.MaxSize+1))
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil && n > s.c.MaxSize:
		err = fmt.Errorf("%w: more than %d bytes; raise the limit if you trust it", ErrHostile, s.c.MaxSize)
	case err == nil:
		err = t.Sync()
	}
	if err != nil {
		t.discard()
		return nil, storeErr(err)
	}
	return &staged{t, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}, n}, nil
}

// reopen reads a staged blob from its start.
func (b *staged) reopen() (io.ReadCloser, error) { return os.Open(b.Name()) }

// arrival is an image on its way in that is not from a registry.
type arrival struct {
	manifest []byte
	mt       types.MediaType
	config   []byte
	layers   []*staged
	diffs    []v1.Hash // what the layers unpack to; zero: not known
}

func (a *arrival) discard() {
	for _, l := range a.layers {
		l.discard()
	}
}

func (a *arrival) unpackable() []layer {
	layers := make([]layer, len(a.layers))
	for i, l := range a.layers {
		layers[i] = layer{name: l.digest.String(), open: l.reopen}
		if i < len(a.diffs) {
			layers[i].diff = a.diffs[i]
		}
	}
	return layers
}

// admit gives an arrival that was unpacked into rootfs its names.
func (s *Store) admit(a *arrival, rootfs *temp, refs []string) (*Image, error) {
	place := func() error {
		for _, l := range a.layers {
			if s.has(l.digest, l.size) {
				continue
			}
			if err := l.keep(s.blobPath(l.digest)); err != nil {
				return err
			}
		}
		for _, b := range [][]byte{a.config, a.manifest} {
			if err := s.writeBlob(b); err != nil {
				return err
			}
		}
		return s.keepRootfs(rootfs, s.rootfsPath(digestOf(a.config)))
	}
	if len(refs) == 0 {
		refs = []string{""}
	}
	var im *Image
	for _, ref := range refs {
		var err error
		if im, err = s.commit(ref, a.manifest, a.mt, place); err != nil {
			return nil, err
		}
		place = nil
	}
	return im, nil
}
