package image

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/boxlite-go/boxlite/internal/erofs"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// layer is one to unpack, from the bottom up.
type layer struct {
	name string  // for messages: its digest
	diff v1.Hash // of what it unpacks to; zero: not known
	open func() (io.ReadCloser, error)
}

// unpack flattens layers into a file in tmp that is complete and synced, and
// returns the digests of what they unpacked to.
func (s *Store) unpack(ctx context.Context, layers []layer) (*temp, []v1.Hash, error) {
	var u undo.Stack
	defer u.Run()
	t, err := s.temp("rootfs-*")
	if err != nil {
		return nil, nil, err
	}
	u.Add(t.discard)
	w := erofs.NewWriter(t.File, erofs.Options{
		MaxBytes: s.c.MaxSize, MaxEntries: s.c.MaxEntries, AllowAbsolute: s.c.AllowAbsolute,
	})
	diffs := make([]v1.Hash, len(layers))
	for i, l := range layers {
		if diffs[i], err = unpackLayer(ctx, w, l); err != nil {
			return nil, nil, err
		}
	}
	if _, err := w.Close(); err != nil {
		return nil, nil, layerErr("", err)
	}
	if err := t.Sync(); err != nil {
		return nil, nil, storeErr(err)
	}
	u.Keep()
	return t, diffs, nil
}

func unpackLayer(ctx context.Context, w *erofs.Writer, l layer) (v1.Hash, error) {
	f, err := l.open()
	if err != nil {
		return v1.Hash{}, err
	}
	defer f.Close()
	r, stop, err := decompress(ctxReader{ctx, f})
	if err != nil {
		return v1.Hash{}, fmt.Errorf("layer %s: %w: %w", short(l.name), ErrHostile, err)
	}
	defer stop()
	ahead := readAhead(r)
	defer ahead.Close()
	sum := sha256.New()
	if err := w.AddLayer(io.TeeReader(ahead, sum)); err != nil {
		if ctx.Err() != nil {
			return v1.Hash{}, context.Cause(ctx)
		}
		return v1.Hash{}, layerErr(l.name, err)
	}
	diff := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if l.diff != (v1.Hash{}) && l.diff != diff {
		return v1.Hash{}, fmt.Errorf("layer %s: %w: it unpacks to %s, and the configuration says %s; pull it again, and do not use it if this comes back", short(l.name), ErrDigest, diff, l.diff)
	}
	return diff, nil
}

// maxWindow bounds the memory zstd takes for a layer; what current tools write
// needs at most this.
const maxWindow = 128 << 20

// decompress finds out by the first bytes what r is. stop lets go of it.
func decompress(r io.Reader) (_ io.Reader, stop func(), err error) {
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, err
		}
		return z, func() { z.Close() }, nil
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return br, func() {}, nil
}

// ctxReader ends with ctx, which it holds no longer than one call lasts.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

// aheadReader decompresses while another goroutine writes: on two processors
// that halves the time.
type aheadReader struct {
	full  chan chunk
	empty chan []byte
	done  chan struct{} // closed by Close
	wg    sync.WaitGroup
	cur   chunk
	buf   []byte // of cur, to be given back
}

type chunk struct {
	data []byte
	err  error // after data
}

func readAhead(r io.Reader) *aheadReader {
	const buffers, size = 4, 256 << 10
	a := &aheadReader{full: make(chan chunk, buffers), empty: make(chan []byte, buffers), done: make(chan struct{})}
	for range buffers {
		a.empty <- make([]byte, size)
	}
	a.wg.Go(func() { a.fill(r) }) // Close waits for it
	return a
}

func (a *aheadReader) fill(r io.Reader) {
	for {
		var buf []byte
		select {
		case buf = <-a.empty:
		case <-a.done:
			return
		}
		n, err := io.ReadFull(r, buf)
		if errors.Is(err, io.ErrUnexpectedEOF) && n > 0 {
			// Ours, at the end, or the decompressor's: the next read tells.
			err = nil
		}
		a.full <- chunk{buf[:n], err}
		if err != nil {
			return
		}
	}
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.cur.data) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.buf != nil {
			a.empty <- a.buf
		}
		a.cur = <-a.full
		a.buf = a.cur.data[:cap(a.cur.data)]
	}
	n := copy(p, a.cur.data)
	a.cur.data = a.cur.data[n:]
	return n, nil
}

// Close ends the reading ahead and waits for it.
func (a *aheadReader) Close() {
	close(a.done)
	a.wg.Wait()
}

// rootfs makes sure that the root file system of an image is here.
func (s *Store) rootfs(ctx context.Context, im *Image) error {
	if im.RootfsSize > 0 {
		return nil
	}
	h, err := v1.NewHash(im.Digest)
	if err != nil {
		return err
	}
	l, err := s.claim(ctx, h.Hex+".pin")
	if err != nil {
		return err
	}
	defer l.Unlock()
	defer os.Remove(s.path("tmp", h.Hex+".pin"))
	if st, err := os.Stat(im.Rootfs); err == nil { // somebody else was faster
		im.RootfsSize = diskSize(st)
		return nil
	}
	m, cf, err := s.manifest(h)
	if err != nil {
		return err
	}
	t, _, err := s.unpack(ctx, s.layers(m, cf))
	if err != nil {
		return s.dropRotten(m.Layers, err)
	}
	defer t.discard()
	if err := s.keepRootfs(t, im.Rootfs); err != nil {
		return err
	}
	if err := s.syncNames(); err != nil {
		return err
	}
	st, err := os.Stat(im.Rootfs)
	if err == nil {
		im.RootfsSize = diskSize(st)
	}
	return err
}

// manifest reads what describes an image in the store.
func (s *Store) manifest(h v1.Hash) (*v1.Manifest, *v1.ConfigFile, error) {
	mb, err := s.readBlob(h, maxManifest)
	if err != nil {
		return nil, nil, err
	}
	m, err := parseManifest(mb)
	if err != nil {
		return nil, nil, err
	}
	cb, err := s.readBlob(m.Config.Digest, maxConfig)
	if err != nil {
		return nil, nil, err
	}
	cf, err := parseConfig(cb, m)
	return m, cf, err
}

// layers are those of an image in the store.
func (s *Store) layers(m *v1.Manifest, cf *v1.ConfigFile) []layer {
	layers := make([]layer, len(m.Layers))
	for i, d := range m.Layers {
		layers[i] = layer{d.Digest.String(), cf.RootFS.DiffIDs[i], func() (io.ReadCloser, error) {
			return os.Open(s.blobPath(d.Digest))
		}}
	}
	return layers
}
