package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// parallel is how many blobs of one image are downloaded at once.
const parallel = 4

// PullOptions are those of a pull. The zero value is right.
type PullOptions struct {
	// Progress, if not nil, is called from one goroutine at a time, about ten
	// times a second, and once at the end. It must not block for long.
	Progress func(Progress)
}

// Pull gets an image from its registry, or a mirror of it, also when an older
// one of that name is here. Only what is missing is downloaded. Calls for the
// same image, in this process and others, do the work once. When it fails the
// store is as before, but for partial downloads that the next pull goes on with.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	r, err := ParseReference(ref)
	if err != nil {
		return nil, err
	}
	rep := newReporter(r.String(), o.Progress)
	begin := time.Now()
	im, err := s.pull(ctx, r, rep)
	rep.stop(err == nil)
	if err != nil {
		return nil, err
	}
	s.log.Info("image pulled", slog.String("image", im.Ref), slog.String("digest", im.Digest), slog.Duration("after", time.Since(begin)))
	return im, nil
}

// Ensure returns the image if it is here, without asking anybody, and pulls it
// otherwise.
func (s *Store) Ensure(ctx context.Context, ref string, o PullOptions) (*Image, error) {
	im, err := s.Image(ctx, ref)
	if err == nil || ctx.Err() != nil || !missing(err) {
		return im, err
	}
	if _, bad := ParseReference(ref); bad != nil {
		return nil, err
	}
	return s.Pull(ctx, ref, o)
}

// missing tells errors that a pull mends.
func missing(err error) bool {
	return errors.Is(err, ErrNotFound) || errors.Is(err, ErrDigest) || notExist(err)
}

// attempts is what all places said that an image could have come from.
type attempts struct {
	ref  string
	errs []error // the last is from the registry itself
}

func (a *attempts) Error() string {
	if len(a.errs) == 1 {
		return a.errs[0].Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s is in none of %d registries:", a.ref, len(a.errs))
	for _, err := range a.errs {
		fmt.Fprintf(&b, "\n- %v", err)
	}
	return b.String()
}

func (a *attempts) Unwrap() error { return a.errs[len(a.errs)-1] }

// pull tries every place, in order.
func (s *Store) pull(ctx context.Context, r Reference, rep *reporter) (*Image, error) {
	failed := &attempts{ref: r.String()}
	for _, ref := range s.c.candidates(r) {
		places, err := s.endpoints(ref)
		if err != nil {
			return nil, err
		}
		for _, e := range places {
			im, err := s.pullFrom(ctx, ref, e, rep)
			if err == nil {
				return im, nil
			}
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if errors.Is(err, ErrHostile) || errors.Is(err, ErrNoSpace) {
				return nil, err
			}
			failed.errs = append(failed.errs, err)
			s.log.Debug("place failed", slog.String("image", ref.Full()), slog.Any("err", err))
		}
	}
	return nil, failed
}

func (s *Store) pullFrom(ctx context.Context, ref Reference, e endpoint, rep *reporter) (*Image, error) {
	c, err := s.connect(ctx, e)
	if err != nil {
		return nil, err
	}
	defer c.close()
	mb, mt, err := c.resolve(ctx, s.platform)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(mb)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e.host(), err)
	}
	total := int64(0)
	for _, l := range m.Layers {
		if total += l.Size; l.Size > s.c.MaxSize || total > s.c.MaxSize {
			return nil, fmt.Errorf("%w: layers of more than %d bytes; raise the limit if you trust it", ErrHostile, s.c.MaxSize)
		}
	}
	rep.begin(total, len(m.Layers))
	unpin, err := s.pin(ctx, digestOf(mb), m)
	if err != nil {
		return nil, err
	}
	defer unpin()
	err = s.assemble(ctx, c, m, rep)
	if errors.Is(err, errRotten) { // they are dropped: get them again
		rep.begin(total, len(m.Layers))
		err = s.assemble(ctx, c, m, rep)
	}
	if err != nil {
		return nil, err
	}
	if err := s.writeBlob(mb); err != nil {
		return nil, storeErr(err)
	}
	return s.commit(ref.Full(), mb, mt, nil)
}

// pin claims a manifest: whoever else wants it waits, and nothing it names is
// collected until unpin or our death.
func (s *Store) pin(ctx context.Context, manifest v1.Hash, m *v1.Manifest) (unpin func(), err error) {
	name := manifest.Hex + ".pin"
	l, err := s.claim(ctx, name)
	if err != nil {
		return nil, err
	}
	unpin = func() {
		os.Remove(s.path("tmp", name))
		l.Unlock()
	}
	lines := []string{manifest.Hex, m.Config.Digest.Hex}
	for _, d := range m.Layers {
		lines = append(lines, d.Digest.Hex)
	}
	// Under the lock: a collection either sees the pin, or is over before we
	// look what is here.
	unlock, err := s.lock()
	if err != nil {
		unpin()
		return nil, err
	}
	defer unlock()
	if err := os.WriteFile(s.path("tmp", name), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		unpin()
		return nil, storeErr(err)
	}
	return unpin, nil
}

// pinned are the blobs that live pulls need. The index must be locked.
func (s *Store) pinnedLocked() (map[string]bool, error) {
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return nil, err
	}
	pins := make(map[string]bool)
	for _, e := range entries {
		path := s.path("tmp", e.Name())
		if !strings.HasSuffix(path, ".pin") {
			continue
		}
		if live, err := hostos.Locked(path); err != nil || !live {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil && !notExist(err) {
			return nil, err
		}
		for line := range strings.SplitSeq(string(b), "\n") {
			pins[line] = true
		}
	}
	return pins, nil
}

// assemble brings configuration, layers and root file system into the store.
// Layers are flattened while those above them still come in.
func (s *Store) assemble(ctx context.Context, c *client, m *v1.Manifest, rep *reporter) error {
	if err := s.fetch(ctx, c, m.Config, func(int64) {}); err != nil {
		return err
	}
	cb, err := s.readBlob(m.Config.Digest, maxConfig)
	if err != nil {
		return err
	}
	cf, err := parseConfig(cb, m)
	if err != nil {
		return err
	}
	if err := checkPlatform(cf, s.platform); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := s.download(ctx, cancel, c, m.Layers, rep)
	defer d.wg.Wait()
	if _, err := os.Stat(s.rootfsPath(m.Config.Digest)); err == nil {
		return d.wait(ctx)
	}
	err = s.flatten(ctx, m, cf, d, rep)
	if err != nil {
		cancel(err) // no use in the layers that still come
		d.wg.Wait()
		err = s.dropRotten(m.Layers, err)
	}
	return err
}

func (s *Store) flatten(ctx context.Context, m *v1.Manifest, cf *v1.ConfigFile, d *downloads, rep *reporter) error {
	layers := make([]layer, len(m.Layers))
	for i, l := range m.Layers {
		layers[i] = layer{l.Digest.String(), cf.RootFS.DiffIDs[i], func() (io.ReadCloser, error) {
			if err := d.waitFor(ctx, i); err != nil {
				return nil, err
			}
			f, err := os.Open(s.blobPath(l.Digest))
			if err != nil {
				return nil, err
			}
			return &counted{f, rep}, nil
		}}
	}
	t, _, err := s.unpack(ctx, layers)
	if err != nil {
		return err
	}
	defer t.discard()
	return s.keepRootfs(t, s.rootfsPath(m.Config.Digest))
}

// counted tells the reporter what is read.
type counted struct {
	*os.File
	rep *reporter
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	c.rep.unpacked.Add(int64(n))
	return n, err
}

// errRotten says that the disk lost what was written to it.
var errRotten = fmt.Errorf("stored layer was damaged and is dropped: %w; pull the image again", ErrDigest)

// dropRotten looks for layers that are not what their names say when
// unpacking failed with err, so that the next pull gets them again.
func (s *Store) dropRotten(layers []v1.Descriptor, err error) error {
	if !errors.Is(err, ErrHostile) && !errors.Is(err, ErrDigest) {
		return err
	}
	for _, l := range layers {
		f, e := os.Open(s.blobPath(l.Digest))
		if e != nil {
			continue
		}
		got, _, e := v1.SHA256(f)
		f.Close()
		if e == nil && got != l.Digest {
			os.Remove(f.Name())
			err = errRotten
		}
	}
	return err
}

// downloads are the layers of one image on their way.
type downloads struct {
	wg    sync.WaitGroup
	ready []chan error // one value each
}

// download starts the downloads; whoever calls it waits for wg. The first that
// fails ends the others.
func (s *Store) download(ctx context.Context, cancel context.CancelCauseFunc, c *client, layers []v1.Descriptor, rep *reporter) *downloads {
	d := &downloads{ready: make([]chan error, len(layers))}
	next := make(chan int, len(layers))
	for i := range layers {
		d.ready[i] = make(chan error, 1)
		next <- i
	}
	close(next)
	for range min(parallel, len(layers)) {
		d.wg.Go(func() {
			for i := range next {
				err := s.fetch(ctx, c, layers[i], func(n int64) { rep.loaded.Add(n) })
				if err != nil {
					cancel(err)
				}
				d.ready[i] <- err
			}
		})
	}
	return d
}

func (d *downloads) waitFor(ctx context.Context, i int) error {
	err := <-d.ready[i]
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx) // of the first that failed
	}
	return err
}

func (d *downloads) wait(ctx context.Context) error {
	for i := range d.ready {
		if err := d.waitFor(ctx, i); err != nil {
			return err
		}
	}
	return nil
}
