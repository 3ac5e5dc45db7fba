package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

var errStalled = errors.New("download made no progress")

// fetch gets a blob into the store. It goes on where an earlier try ended,
// also one of another process. got hears of the bytes that are here.
func (s *Store) fetch(ctx context.Context, c *client, d v1.Descriptor, got func(int64)) error {
	if s.has(d.Digest, d.Size) {
		got(d.Size)
		return nil
	}
	name := d.Digest.Hex + ".part"
	l, err := s.claim(ctx, name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	p := &part{path: s.path("tmp", name), d: d, got: got}
	if s.has(d.Digest, d.Size) { // whoever held the lock got it
		os.Remove(p.path)
		got(d.Size)
		return nil
	}
	if err := p.open(); err != nil {
		return storeErr(err)
	}
	defer p.f.Close()
	if err := p.download(ctx, c); err != nil {
		p.count(0)
		if p.off == 0 || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			os.Remove(p.path)
		}
		return blobErr(c.host(), d, err)
	}
	if err := p.f.Sync(); err != nil {
		return storeErr(err)
	}
	if err := p.f.Chmod(0o400); err != nil {
		return err
	}
	return storeErr(os.Rename(p.path, s.blobPath(d.Digest)))
}

func blobErr(host string, d v1.Descriptor, err error) error {
	err = fmt.Errorf("blob %s: %w", short(d.Digest.String()), err)
	if errors.Is(err, ErrDigest) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return storeErr(err)
	}
	return registryErr(host, err)
}

// part is a blob on its way.
type part struct {
	path    string
	d       v1.Descriptor
	f       *os.File
	off     int64 // bytes in f
	sum     hash.Hash
	got     func(int64)
	counted int64 // what got was told
}

// open reads what is there.
func (p *part) open() (err error) {
	if p.f, err = os.OpenFile(p.path, os.O_RDWR, 0); err != nil {
		return err
	}
	p.sum = sha256.New()
	if p.off, err = io.Copy(p.sum, io.LimitReader(p.f, p.d.Size+1)); err != nil {
		return err
	}
	if p.off > p.d.Size {
		return p.restart()
	}
	p.count(p.off)
	return nil
}

func (p *part) restart() error {
	p.off = 0
	p.sum.Reset()
	p.count(0)
	if err := p.f.Truncate(0); err != nil {
		return err
	}
	_, err := p.f.Seek(0, io.SeekStart)
	return err
}

// count tells got that n bytes are here.
func (p *part) count(n int64) {
	p.got(n - p.counted)
	p.counted = n
}

func (p *part) Write(b []byte) (int, error) {
	n, err := p.f.Write(b)
	p.sum.Write(b[:n])
	p.off += int64(n)
	p.count(p.off)
	return n, err
}

// maxAttempts bounds what a server gets that breaks off again and again.
const maxAttempts = 40

// download tries until the blob is whole and right, or there is no hope. Tries
// that got further do not count as failed.
func (p *part) download(ctx context.Context, c *client) error {
	resumed := p.off > 0
	try := 0
	for attempt := 1; ; attempt++ {
		from := p.off
		err := p.attempt(ctx, c)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrDigest):
			// What an earlier try left may be at fault: once more from the start.
			if e := p.restart(); e != nil {
				return e
			}
			if !resumed {
				return err
			}
			resumed = false
			continue
		case !again(err) || attempt == maxAttempts:
			return err
		case p.off > from:
			resumed, try = true, 0
		}
		if try++; try >= tries {
			return err
		}
		if err := pause(ctx, try-1); err != nil {
			return err
		}
	}
}

// attempt asks once for what is missing, and checks the whole.
func (p *part) attempt(ctx context.Context, c *client) error {
	if p.off < p.d.Size {
		if err := p.request(ctx, c); err != nil {
			return err
		}
	}
	switch got := hex.EncodeToString(p.sum.Sum(nil)); {
	case p.off < p.d.Size:
		return fmt.Errorf("%d of %d bytes: %w", p.off, p.d.Size, io.ErrUnexpectedEOF)
	case p.off > p.d.Size || got != p.d.Digest.Hex:
		return fmt.Errorf("%w: got sha256:%s of %d bytes; do not use this registry if it comes back", ErrDigest, got[:12], p.off)
	}
	return nil
}

func (p *part) request(ctx context.Context, c *client) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := fmt.Errorf("%w for %v", errStalled, c.stall)
	watch := time.AfterFunc(c.stall, func() { cancel(stalled) })
	defer watch.Stop()
	header := http.Header{}
	if p.off > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", p.off, p.d.Size-1)) // with an end: some know no other
	}
	resp, err := c.get(ctx, "blobs/"+p.d.Digest.String(), header)
	if err != nil {
		return orCause(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return p.restart0()
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && p.off > 0 { // it does not know Range
		if err := p.restart(); err != nil {
			return err
		}
	}
	body := &watched{r: resp.Body, watch: watch, after: c.stall}
	_, err = io.Copy(p, io.LimitReader(body, p.d.Size-p.off+1))
	return orCause(ctx, err)
}

// restart0 makes the next try begin at the start.
func (p *part) restart0() error {
	if err := p.restart(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

func orCause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// enough is how many bytes a download must bring in the time it may stall.
const enough = 16 << 10

// watched puts off the end of a request while bytes arrive.
type watched struct {
	r     io.Reader
	watch *time.Timer
	after time.Duration
	n     int // since it was put off
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if w.n += n; w.n >= enough {
		w.n = 0
		w.watch.Reset(w.after)
	}
	return n, err
}
