package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Store is the images of one home. It is safe for concurrent use, also by
// other processes on the same directory.
type Store struct {
	c        Config
	platform *v1.Platform
	dir      string
	log      *slog.Logger
	stall    time.Duration // how long a download may make no progress
	patience time.Duration // how long a registry has to answer
}

const (
	layoutFile = `{"imageLayoutVersion":"1.0.0"}`
	emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

	stallTimeout    = 30 * time.Second
	registryTimeout = 12 * time.Second
	// partLife is how long an interrupted download may be taken up again.
	partLife = 24 * time.Hour
	// lockPoll is how often a lock that ctx may end the wait for is tried.
	lockPoll = 25 * time.Millisecond
)

// Open opens the store, and makes it if it is missing. It removes what dead
// processes left unfinished.
func Open(c Config) (*Store, error) {
	c, platform, err := c.complete()
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{c: c, platform: platform, dir: dir, log: c.Logger, stall: stallTimeout, patience: registryTimeout}
	for _, d := range []string{"blobs/sha256", "rootfs", "tmp"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	if err := s.initialise(); err != nil {
		return nil, fmt.Errorf("image store %s: %w", dir, err)
	}
	s.sweep(partLife)
	return s, nil
}

// initialise makes the files that are missing.
func (s *Store) initialise() error {
	f, err := os.OpenFile(s.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, x := range []struct{ name, content string }{{"oci-layout", layoutFile}, {"index.json", emptyIndex}} {
		if _, err := os.Stat(s.path(x.name)); err == nil {
			continue
		} else if !notExist(err) {
			return err
		}
		if err := hostos.WriteFileAtomic(s.path(x.name), []byte(x.content), 0o600); err != nil {
			return storeErr(err)
		}
	}
	return nil
}

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

func (s *Store) blobPath(h v1.Hash) string { return s.path("blobs", "sha256", h.Hex) }

// rootfsPath depends on the configuration, which lists the digests of the
// unpacked layers: images that differ in compression alone share it.
func (s *Store) rootfsPath(config v1.Hash) string { return s.path("rootfs", config.Hex+".erofs") }

// lock takes the lock of the index. It is held for short: no network, no
// unpacking.
func (s *Store) lock() (unlock func(), err error) {
	l, err := hostos.WaitLock(s.path("lock"))
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	return l.Unlock, nil
}

// claim takes the lock of a file in tmp by its name, and makes the file if it
// is missing, waiting for whoever holds it until ctx ends.
func (s *Store) claim(ctx context.Context, name string) (*hostos.Lock, error) {
	path := s.path("tmp", name)
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, storeErr(err)
		}
		f.Close()
		l, err := hostos.TryLock(path)
		if err == nil {
			return l, nil
		}
		if errors.Is(err, hostos.ErrLocked) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		} else if !notExist(err) { // it was removed meanwhile
			return nil, err
		}
	}
}

// temp is a file in tmp that nobody else may remove while we live.
type temp struct {
	*os.File
	lock *hostos.Lock
	kept bool // it has another name
}

func (s *Store) temp(pattern string) (*temp, error) {
	for {
		f, err := os.CreateTemp(s.path("tmp"), pattern)
		if err != nil {
			return nil, storeErr(err)
		}
		l, err := hostos.TryLock(f.Name())
		if err == nil {
			return &temp{File: f, lock: l}, nil
		}
		f.Close()
		// A sweep that came before the lock has removed it, or is about to.
		if !notExist(err) && !errors.Is(err, hostos.ErrLocked) {
			return nil, err
		}
	}
}

// discard closes the file, and removes it unless it was kept.
func (t *temp) discard() {
	if !t.kept {
		os.Remove(t.Name())
	}
	t.Close()
	t.lock.Unlock()
}

// keep gives a file that is complete and synced its name. The directory still
// has to be synced.
func (t *temp) keep(path string) error {
	if err := t.Chmod(0o400); err != nil {
		return err
	}
	err := os.Rename(t.Name(), path)
	t.kept = err == nil
	return err
}

// keepRootfs names an unpacked image, unless somebody else was faster: boxes
// that have the other open go on sharing it with new ones.
func (s *Store) keepRootfs(t *temp, path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return storeErr(t.keep(path))
}

// sweep removes files in tmp whose owner is gone. Partial downloads stay until
// they are older than parts.
func (s *Store) sweep(parts time.Duration) (freed int64) {
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil {
		return 0
	}
	for _, e := range entries {
		path := s.path("tmp", e.Name())
		st, err := e.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		if strings.HasSuffix(e.Name(), ".part") && time.Since(st.ModTime()) < parts {
			continue
		}
		l, err := hostos.TryLock(path)
		if err != nil {
			continue
		}
		if os.Remove(path) == nil {
			freed += diskSize(st)
		}
		l.Unlock()
	}
	return freed
}

// readBlob reads a small blob, whole, and checks it.
func (s *Store) readBlob(h v1.Hash, limit int64) ([]byte, error) {
	f, err := os.Open(s.blobPath(h))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if digestOf(b) != h {
		os.Remove(f.Name()) // so that the next pull gets it again
		return nil, fmt.Errorf("blob %s: %w; pull the image again", short(h.String()), ErrDigest)
	}
	return b, nil
}

// writeBlob puts a small blob on stable storage under its name.
func (s *Store) writeBlob(b []byte) error {
	h := digestOf(b)
	if s.has(h, int64(len(b))) {
		return nil
	}
	t, err := s.temp("blob-*")
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.Write(b); err != nil {
		return storeErr(err)
	}
	if err := t.Sync(); err != nil {
		return storeErr(err)
	}
	return t.keep(s.blobPath(h))
}

// has tells whether a blob is here, whole.
func (s *Store) has(h v1.Hash, size int64) bool {
	st, err := os.Stat(s.blobPath(h))
	return err == nil && st.Mode().IsRegular() && st.Size() == size
}
