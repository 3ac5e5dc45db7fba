package gvisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/hostarch"
	"gvisor.dev/gvisor/runsc/boot"

	"github.com/boxlite-go/boxlite/gvisor/internal/blocks"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// SaveDisk implements engine.DiskSaver. The box is paused while its tree is
// written and its contents are looked at, not while that is brought to stable
// storage.
func (m *machine) SaveDisk(ctx context.Context) (engine.Saved, error) {
	select {
	case m.saving <- struct{}{}:
	case <-m.done:
		return engine.Saved{}, fmt.Errorf("save disk: %w", engine.ErrEnded)
	case <-ctx.Done():
		return engine.Saved{}, fmt.Errorf("save disk: %w", context.Cause(ctx))
	}
	type result struct {
		saved engine.Saved
		err   error
	}
	done := make(chan result, 1)
	// A save cannot be interrupted: it goes on when ctx ends. The machine's end
	// waits for it.
	go func() {
		defer func() { <-m.saving }()
		s, err := m.save()
		if mended := err; errors.Is(mended, ErrDamaged) {
			s, err = m.save() // of what the box has, which is whole
			s.Mended = mended
		}
		done <- result{s, err}
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return r.saved, fmt.Errorf("save disk: %w", r.err)
		}
		return r.saved, nil
	case <-ctx.Done():
		return engine.Saved{}, fmt.Errorf("save disk: %w", context.Cause(ctx))
	}
}

// save makes the disk hold the layer as it is now. After a crash at any moment
// the disk holds the layer from before or the new one.
func (m *machine) save() (s engine.Saved, err error) {
	n, err := m.layer.next()
	if err != nil {
		return s, err
	}
	defer n.close()
	s.Paused, err = m.paused(func() error {
		if err := m.writeTree(n); err != nil {
			return err
		}
		if err := n.measure(m.spec); err != nil {
			return err
		}
		return n.capture(m.spec.DiskSize + hostarch.PageSize) // its last page may be half a one
	})
	if err != nil {
		return s, err
	}
	s.Unchanged, err = n.commit()
	return s, err
}

// paused runs f while nothing in the box does, and says how long that was.
func (m *machine) paused(f func() error) (took time.Duration, err error) {
	began := time.Now()
	if err := m.ctl.saves.Call(boot.ContMgrPause, nil, nil); err != nil {
		return 0, err
	}
	defer func() {
		if e := m.ctl.saves.Call(boot.ContMgrResume, nil, nil); e != nil {
			e = fmt.Errorf("box does not go on: %w", e)
			err = errors.Join(err, e)
			select {
			case <-m.proc.exited: // that is why
			case <-time.After(lastBreath):
				m.fail(e)
			}
		}
		took = time.Since(began)
	}()
	return 0, f()
}

// lastBreath is how long a sentry that no longer answers may take to be gone
// as a process; that it was killed says more than that it does not answer.
const lastBreath = time.Second

// writeTree has the sentry write its tree, and where in the upper file the
// contents are. The contents themselves, which it would write behind each
// other into a file, go nowhere: they are in the upper file, where we look for
// those that have changed.
func (m *machine) writeTree(n *nextLayer) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	args := &boot.FSSaveArgs{}
	args.FilePayload.Files = append(append([]*os.File{}, n.files[:pagesFile]...), null)
	err = m.ctl.saves.Call(boot.ContMgrFSSave, args, nil)
	if err != nil && strings.Contains(err.Error(), unix.ENOSPC.Error()) {
		return fullError{err} // errors of the sentry come as text
	}
	return err
}

// fullError is an error of the sentry because a disk of the host is full.
type fullError struct{ error }

func (fullError) Unwrap() error { return unix.ENOSPC }

// nextLayer is a layer that is being saved.
type nextLayer struct {
	l        *layer
	dir      string
	files    []*os.File
	draft    *blocks.Draft
	manifest manifest
	tree     tree
	kept     bool // the manifest names it
}

// next begins a save.
func (l *layer) next() (_ *nextLayer, err error) {
	n := &nextLayer{l: l}
	if n.dir, err = os.MkdirTemp(l.disk, layerPrefix); err != nil {
		return nil, err
	}
	n.manifest = manifest{Format: formatBlocks, Engine: Version(), Dir: filepath.Base(n.dir)}
	for _, name := range layerNames[formatBlocks] {
		f, err := os.OpenFile(filepath.Join(n.dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			n.close()
			return nil, err
		}
		n.files = append(n.files, f)
	}
	return n, nil
}

// close removes what was written, unless the manifest names it.
func (n *nextLayer) close() {
	for _, f := range n.files {
		f.Close()
	}
	if n.kept {
		return
	}
	if n.draft != nil {
		n.draft.Discard()
	}
	_ = os.RemoveAll(n.dir) // a leftover of the next start otherwise
}

// measure takes the sizes of what the sentry has written, once: what it may add
// later is not looked at. It refuses a tree that could not be loaded again.
func (n *nextLayer) measure(s engine.Spec) error {
	files := &n.manifest.Files
	for i, f := range n.files[:pagesFile] {
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		files[i].Size = fi.Size()
	}
	if got, most := files[treeFile].Size, maxTree(s); got > most {
		return fmt.Errorf("too many files: what is to be saved of their names takes %d bytes, and a box of this memory can start with %d; remove some, or take a box of more memory", got, most)
	}
	if got, most := files[checkpointFile].Size+files[metaFile].Size, maxLists(s); got > most {
		return fmt.Errorf("the sentry lists its contents in %d bytes, where those of a full disk take %d at most", got, most)
	}
	return nil
}

// maxLists bounds what a sentry that was taken over can make us read: for each
// page of a full disk an entry of a list, which takes less than 64 bytes.
func maxLists(s engine.Spec) int64 { return 1<<20 + s.DiskSize/hostarch.PageSize*64 }

// capture takes the contents that have changed. The box is paused. What no file
// has any more is left out, or it would be kept for good.
func (n *nextLayer) capture(most int64) error {
	meta, err := readPagesMeta(n.files, &n.manifest)
	if err != nil {
		return err
	}
	if n.tree, err = readTree(n.files[treeFile], n.manifest.Files[treeFile].Size, n.l.seed); err != nil {
		return err
	}
	n.draft, err = n.l.tracker.Capture(n.l.upper, common(meta.ranges(), n.tree.used), most)
	return err
}

// commit makes the new layer the saved one, if it is another.
func (n *nextLayer) commit() (unchanged bool, err error) {
	if n.tree.sum == n.l.tree && n.draft.Same() {
		return true, nil
	}
	man := &n.manifest
	for i, f := range n.files[:pagesFile] {
		if man.Files[i].CRC, err = checksum(f, man.Files[i].Size); err != nil {
			return false, err
		}
	}
	if err := n.sync(); err != nil {
		return false, err
	}
	b, err := json.Marshal(man)
	if err != nil {
		return false, err
	}
	n.l.tree = 0 // until it is certain what a crash leaves
	err = hostos.WriteFileAtomic(filepath.Join(n.l.disk, manifestName), b, 0o600)
	if n.kept = n.named(); n.kept {
		n.draft.Keep()
		n.l.manifest = *man
	}
	if err != nil {
		return false, err
	}
	n.l.tree = n.tree.sum
	n.l.removeLeftovers()
	return false, nil
}

// named tells whether the manifest in the disk names this layer, or may: an
// error can come after it was replaced, when only a power cut undoes that.
func (n *nextLayer) named() bool {
	now, err := readManifest(n.l.disk)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return now.Dir == n.manifest.Dir
}

// sync brings all that the manifest is to name to stable storage.
func (n *nextLayer) sync() error {
	if err := n.draft.Sync(); err != nil {
		return err
	}
	man := &n.manifest
	man.Segments = n.draft.Version.Segments
	table := n.draft.Version.Table()
	if _, err := n.files[pagesFile].Write(table); err != nil {
		return err
	}
	man.Files[pagesFile] = fileInfo{int64(len(table)), crc32.Checksum(table, castagnoli)}
	for _, f := range n.files {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return errors.Join(hostos.SyncDir(n.dir), hostos.SyncDir(n.l.disk))
}
