package gvisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// A saved layer is a directory of the disk, named by a manifest beside it
// that is replaced at one moment: what it names is whole and on stable
// storage. Everything else in the disk is a leftover.
const (
	manifestName = "layer.json"
	layerPrefix  = "layer-"
	// layerFormat is that of what gVisor saves (its file system checkpoint,
	// version 1) and of our manifest together.
	layerFormat = 1
)

// layerFiles are what gVisor saves, in the order it takes them: a list of what
// follows, the tree as a tar without contents, where the contents are in the
// pages, and the pages.
var layerFiles = [...]string{"checkpoint", "tree.tar", "pages.meta", "pages"}

// manifest describes a saved layer.
type manifest struct {
	Format int                       `json:"format"`
	Engine string                    `json:"engine"` // version of gVisor, for people
	Dir    string                    `json:"dir"`
	Files  [len(layerFiles)]fileInfo `json:"files"`
}

// fileInfo is what a saved file must be.
type fileInfo struct {
	Size int64  `json:"size"`
	CRC  uint32 `json:"crc32c"`
}

// layer is a saved layer, open. Without files it is a fresh one. The zero
// value is that.
type layer struct {
	manifest manifest
	files    []*os.File
}

// ErrDamaged says that a saved writable layer is not what was saved. The files
// are left as they are.
var ErrDamaged = errors.New("saved layer is damaged")

// openLayer opens the layer saved in disk and removes leftovers of saves that
// did not finish.
func openLayer(disk string) (*layer, error) {
	man, err := readManifest(disk)
	if errors.Is(err, fs.ErrNotExist) {
		removeLeftovers(disk, "")
		return &layer{}, nil
	}
	if err != nil {
		return nil, err
	}
	removeLeftovers(disk, man.Dir)
	var u undo.Stack
	defer u.Run()
	l := &layer{manifest: man}
	for i, name := range layerFiles {
		path := filepath.Join(disk, man.Dir, name)
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		u.Add(func() { f.Close() })
		fi, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if got, want := fi.Size(), man.Files[i].Size; got != want {
			return nil, fmt.Errorf("%w: %s has %d bytes, not the %d that were saved", ErrDamaged, path, got, want)
		}
		l.files = append(l.files, f)
	}
	u.Keep()
	return l, nil
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
	if man.Format != layerFormat {
		return man, fmt.Errorf("%s has format %d, this version reads %d: run the version of boxlite that saved it", path, man.Format, layerFormat)
	}
	if man.Dir != filepath.Base(man.Dir) || !strings.HasPrefix(man.Dir, layerPrefix) {
		return man, fmt.Errorf("%w: %s names directory %q", ErrDamaged, path, man.Dir)
	}
	return man, nil
}

// verify reads all of l and compares it with what was saved. It takes a
// second for a few gigabytes, so it runs beside the boot.
func (l *layer) verify() error {
	for i, f := range l.files {
		got, err := checksum(f)
		if err != nil {
			return err
		}
		if want := l.manifest.Files[i].CRC; got != want {
			return fmt.Errorf("%w: %s has checksum %08x, not %08x", ErrDamaged, f.Name(), got, want)
		}
	}
	return nil
}

// Close closes the files.
func (l *layer) Close() {
	for _, f := range l.files {
		f.Close()
	}
	l.files = nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum reads f from its start, without moving its offset.
func checksum(f *os.File) (uint32, error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	h := crc32.New(castagnoli)
	buf := make([]byte, 1<<20)
	_, err = io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(f, 0, fi.Size()), buf)
	return h.Sum32(), err
}

// saveLayer makes disk hold what save writes into the files it is given, in
// the order of layerFiles. After a crash at any moment disk holds the layer
// from before or the new one.
func saveLayer(disk string, save func([]*os.File) error) (err error) {
	dir, err := os.MkdirTemp(disk, layerPrefix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	man := manifest{Format: layerFormat, Engine: Version(), Dir: filepath.Base(dir)}
	if err := writeLayer(dir, &man, save); err != nil {
		return err
	}
	b, err := json.Marshal(man)
	if err != nil {
		return err
	}
	if err := hostos.WriteFileAtomic(filepath.Join(disk, manifestName), b, 0o600); err != nil {
		return err
	}
	removeLeftovers(disk, man.Dir)
	return nil
}

// writeLayer fills dir and man.
func writeLayer(dir string, man *manifest, save func([]*os.File) error) error {
	var files []*os.File
	for _, name := range layerFiles {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		files = append(files, f)
	}
	if err := save(files); err != nil {
		return err
	}
	for i, f := range files {
		if err := f.Sync(); err != nil {
			return err
		}
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		man.Files[i].Size = fi.Size()
		if man.Files[i].CRC, err = checksum(f); err != nil {
			return err
		}
	}
	return hostos.SyncDir(dir)
}

// removeLeftovers removes what is in disk but the layer keep. It is tidying:
// what cannot be removed now is tried again next time.
func removeLeftovers(disk, keep string) {
	entries, _ := os.ReadDir(disk)
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, layerPrefix) && name != keep && name != manifestName && e.IsDir() {
			_ = os.RemoveAll(filepath.Join(disk, name))
		}
		if strings.HasPrefix(name, "."+manifestName+".") || strings.HasPrefix(name, "upper-") {
			_ = os.Remove(filepath.Join(disk, name))
		}
	}
}
