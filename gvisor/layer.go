package gvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/boxlite-go/boxlite/gvisor/internal/blocks"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// A saved layer is a directory of the disk and segments beside it, named by a
// manifest that is replaced at one moment: what it names is whole and on
// stable storage. Everything else in the disk is a leftover.
const (
	manifestName = "layer.json"
	layerPrefix  = "layer-"
	// Formats of what gVisor saves (its file system checkpoint, version 1) and
	// of our manifest together. The first had all contents in one file of the
	// directory; it is read, and saved as the second.
	formatWhole, formatBlocks = 1, 2
	// The versions of gVisor's part.
	checkpointVersion, metaVersion = 1, 1
)

// The files of a saved layer are what gVisor saves, in the order it takes
// them: a list of what follows, the tree as a tar without contents, and where
// the contents are in the pages. The last one is the pages themselves, or the
// table of the blocks that hold them.
const (
	checkpointFile = iota
	treeFile
	metaFile
	pagesFile
	layerFiles
)

var layerNames = [...][layerFiles]string{
	formatWhole:  {"checkpoint", "tree.tar", "pages.meta", "pages"},
	formatBlocks: {"checkpoint", "tree.tar", "pages.meta", "blocks"},
}

// manifest describes a saved layer.
type manifest struct {
	Format   int                  `json:"format"`
	Engine   string               `json:"engine"` // version of gVisor, for people
	Dir      string               `json:"dir"`
	Files    [layerFiles]fileInfo `json:"files"`
	Segments []blocks.Segment     `json:"segments,omitempty"`
}

// fileInfo is what a saved file must be.
type fileInfo struct {
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc32c"`
}

// layer is the writable layer of a machine: what of it is saved, and the file
// that holds its contents while it runs.
type layer struct {
	disk     string
	manifest manifest       // of what is saved; the zero manifest: nothing
	files    []*os.File     // what is saved, open; none: a fresh layer
	sentry   []*os.File     // what the sentry begins with instead
	ranges   []blocks.Range // of upper that have contents at the start, in formatWhole
	upper    *os.File       // contents, as long as the machine runs
	tracker  *blocks.Tracker
	seed     maphash.Seed
	began    int64  // bytes of the tree the machine starts with
	tree     uint64 // sum of the tree that is saved, 0: not known
}

// ErrDamaged says that a saved writable layer is not what was saved. The files
// are left as they are.
var ErrDamaged = blocks.ErrDamaged

// openLayer opens the layer saved in disk and removes leftovers of saves that
// did not finish. Until [layer.load] has succeeded it is not to be used.
func openLayer(disk string) (*layer, error) {
	var u undo.Stack
	defer u.Run()
	l := &layer{disk: disk, seed: maphash.MakeSeed()}
	u.Add(l.Close)
	man, err := readManifest(disk)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.tracker = blocks.NewTracker(disk, blocks.Version{})
	case err != nil:
		return nil, err
	default:
		l.manifest = man
		l.began = man.Files[treeFile].Size
		if err := l.openFiles(); err != nil {
			return nil, err
		}
	}
	l.removeLeftovers()
	if l.upper, err = unlinkedFile(disk); err != nil {
		return nil, err
	}
	u.Keep()
	return l, nil
}

// openFiles opens what the manifest names.
func (l *layer) openFiles() error {
	man := &l.manifest
	for i, name := range layerNames[man.Format] {
		path := filepath.Join(l.disk, man.Dir, name)
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		l.files = append(l.files, f)
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		if got, want := fi.Size(), man.Files[i].Size; got != want {
			return fmt.Errorf("%w: %s has %d bytes, not the %d that were saved", ErrDamaged, path, got, want)
		}
	}
	// The rest is read when there is nothing to wait for: these are small.
	if err := errors.Join(l.verify(checkpointFile), l.verify(metaFile)); err != nil {
		return err
	}
	meta, err := readPagesMeta(l.files, man)
	if err != nil {
		return err
	}
	l.ranges = meta.ranges()
	return errors.Join(l.openBlocks(), l.forSentry(meta))
}

// openBlocks begins with the blocks that are saved.
func (l *layer) openBlocks() error {
	l.tracker = blocks.NewTracker(l.disk, blocks.Version{})
	if l.manifest.Format == formatWhole {
		return nil // it is saved as blocks from now on
	}
	table, err := readAll(l.files[pagesFile], l.manifest.Files[pagesFile].Size)
	if err != nil {
		return err
	}
	if err := l.verify(pagesFile); err != nil {
		return err
	}
	version, err := blocks.Read(l.disk, table, l.manifest.Segments)
	if err != nil {
		return err
	}
	l.tracker = blocks.NewTracker(l.disk, version)
	return nil
}

// forSentry opens what the sentry begins with.
func (l *layer) forSentry(meta *pagesMeta) error {
	checkpoint, m, err := meta.forSentry()
	if err != nil {
		return err
	}
	l.files = append(l.files, checkpoint, m)
	null, err := os.Open(os.DevNull) // its pages
	if err != nil {
		return err
	}
	l.files = append(l.files, null)
	l.sentry = []*os.File{checkpoint, l.files[treeFile], m, null}
	return nil
}

func readManifest(disk string) (manifest, error) {
	var man manifest
	path := filepath.Join(disk, manifestName)
	b, err := os.ReadFile(path)
	if err != nil {
		return man, err
	}
	if err := json.Unmarshal(b, &man); err != nil {
		return man, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	if man.Format != formatWhole && man.Format != formatBlocks {
		return man, fmt.Errorf("%s has format %d, this version reads %d and %d: run the version of boxlite that saved it, with gVisor %s",
			path, man.Format, formatWhole, formatBlocks, man.Engine)
	}
	if man.Dir != filepath.Base(man.Dir) || !strings.HasPrefix(man.Dir, layerPrefix) {
		return man, fmt.Errorf("%w: %s names directory %q", ErrDamaged, path, man.Dir)
	}
	return man, nil
}

// fill puts the saved contents into the upper file, and compares them with
// what was saved. The sentry has made the file empty, and nothing runs yet.
func (l *layer) fill() error {
	if l.manifest.Format == formatBlocks {
		return l.tracker.Restore(l.upper)
	}
	pages := l.files[pagesFile]
	if err := l.verify(pagesFile); err != nil {
		return err
	}
	at := int64(0)
	for _, r := range l.ranges { // one right behind the other
		n, err := io.Copy(io.NewOffsetWriter(l.upper, r.Start), io.NewSectionReader(pages, at, r.End-r.Start))
		if err != nil {
			return err
		}
		if n != r.End-r.Start {
			return fmt.Errorf("%w: %s ends early", ErrDamaged, pages.Name())
		}
		at += n
	}
	return nil
}

// verify compares a file with its checksum.
func (l *layer) verify(i int) error {
	got, err := checksum(l.files[i], l.manifest.Files[i].Size)
	if err != nil {
		return err
	}
	if want := l.manifest.Files[i].CRC; got != want {
		return fmt.Errorf("%w: %s has checksum %08x, not %08x", ErrDamaged, l.files[i].Name(), got, want)
	}
	return nil
}

// started gives up what only the start needed.
func (l *layer) started() {
	for _, f := range l.files {
		f.Close()
	}
	l.files, l.sentry, l.ranges = nil, nil, nil
}

// Close closes all files; what uses them meanwhile fails.
func (l *layer) Close() {
	for _, f := range l.files {
		f.Close()
	}
	if l.upper != nil {
		l.upper.Close()
	}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum reads the first size bytes of f, without moving its offset.
func checksum(f *os.File, size int64) (uint32, error) {
	h := crc32.New(castagnoli)
	buf := make([]byte, 1<<20)
	_, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, 0, size), buf)
	return h.Sum32(), err
}

// readAll reads the first size bytes of f, without moving its offset.
func readAll(f *os.File, size int64) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(f, 0, size))
}

// removeLeftovers removes what is in the disk but not in the manifest. It is
// tidying: what cannot be removed now is tried again next time.
func (l *layer) removeLeftovers() {
	entries, _ := os.ReadDir(l.disk)
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, layerPrefix) && name != l.manifest.Dir && name != manifestName && e.IsDir() {
			_ = os.RemoveAll(filepath.Join(l.disk, name))
		}
		if strings.HasPrefix(name, "."+manifestName+".") || strings.HasPrefix(name, "upper-") {
			_ = os.Remove(filepath.Join(l.disk, name))
		}
	}
	version := blocks.Version{Segments: l.manifest.Segments}
	version.Clean(l.disk)
}
