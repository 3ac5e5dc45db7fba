package boxlite

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
	"syscall"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// localVolumes are the volumes of a home. It implements volumeStore.
type localVolumes struct{ rt *local }

func (r *local) volumes() volumeStore { return &localVolumes{r} }

func (r *local) volumesDir() string { return filepath.Join(r.home, "volumes") }

func (r *local) volumeDir(name string) string { return filepath.Join(r.volumesDir(), name) }

const (
	// volumeLock is held while it is decided whether a box has a volume.
	volumeLock = ".lock"
	// removedVolume begins the name of a volume that is being removed. No
	// volume's own name begins with a dot.
	removedVolume = ".removed-"
)

// openVolumes makes the directory of the volumes and finishes removals that a
// crash has interrupted.
func (r *local) openVolumes() error {
	if err := os.MkdirAll(r.volumesDir(), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(r.volumeDir(volumeLock), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	lock.Close()
	entries, err := os.ReadDir(r.volumesDir())
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), removedVolume) {
			continue
		}
		if err := removeTree(r.volumeDir(e.Name())); err != nil {
			r.log.Warn("removed volume left behind", slog.String("volume", e.Name()), slog.Any("err", err))
		}
	}
	return err
}

// lockVolumes keeps others from giving volumes to boxes, or removing any.
func (r *local) lockVolumes() (*hostos.Lock, error) {
	return hostos.WaitLock(r.volumeDir(volumeLock))
}

func volumeFail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{op, name, spaceErr(err)}
}

func (v *localVolumes) Create(ctx context.Context, name string) (VolumeInfo, error) {
	if name == "" {
		name = newID()
	}
	if !nameRE.MatchString(name) {
		return VolumeInfo{}, volumeFail("create volume", name, fmt.Errorf("%w: name: %s", ErrInvalid, nameRule))
	}
	err := os.Mkdir(v.rt.volumeDir(name), 0o755)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: choose another name, or use it as it is", ErrExists)
	}
	if err == nil {
		err = hostos.SyncDir(v.rt.volumesDir())
	}
	if err != nil {
		return VolumeInfo{}, volumeFail("create volume", name, err)
	}
	return v.Inspect(ctx, name)
}

func (v *localVolumes) Inspect(ctx context.Context, name string) (VolumeInfo, error) {
	used, err := v.used(ctx)
	if err != nil {
		return VolumeInfo{}, volumeFail("inspect volume", name, err)
	}
	info, err := v.info(ctx, name, used)
	return info, volumeFail("inspect volume", name, err)
}

func (v *localVolumes) List(ctx context.Context) ([]VolumeInfo, error) {
	used, err := v.used(ctx)
	if err != nil {
		return nil, volumeFail("list volumes", "", err)
	}
	entries, err := os.ReadDir(v.rt.volumesDir())
	if err != nil {
		return nil, volumeFail("list volumes", "", err)
	}
	infos := []VolumeInfo{}
	for _, e := range entries {
		if !nameRE.MatchString(e.Name()) {
			continue
		}
		info, err := v.info(ctx, e.Name(), used)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, volumeFail("list volumes", e.Name(), err)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (v *localVolumes) Remove(ctx context.Context, name string) error {
	return volumeFail("remove volume", name, v.remove(ctx, name))
}

func (v *localVolumes) remove(ctx context.Context, name string) error {
	aside, err := v.setAside(ctx, name)
	if err != nil {
		return err
	}
	return removeTree(aside)
}

// setAside takes the name from a volume, at one moment. What is left is
// nobody's, and removed now or when the home is opened next.
func (v *localVolumes) setAside(ctx context.Context, name string) (aside string, err error) {
	lock, err := v.rt.lockVolumes()
	if err != nil {
		return "", err
	}
	defer lock.Unlock()
	used, err := v.used(ctx)
	switch {
	case err != nil:
		return "", err
	case !nameRE.MatchString(name):
		return "", errNoVolume
	case len(used[name]) > 0:
		return "", fmt.Errorf("%w: in use by %s; remove the box first", ErrState, strings.Join(used[name], ", "))
	}
	aside = v.rt.volumeDir(removedVolume + newID())
	err = os.Rename(v.rt.volumeDir(name), aside)
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoVolume
	}
	return aside, err
}

var errNoVolume = fmt.Errorf("volume %w", ErrNotFound)

func (v *localVolumes) Prune(ctx context.Context) ([]VolumeInfo, error) {
	all, err := v.List(ctx)
	if err != nil {
		return nil, err
	}
	var removed []VolumeInfo
	for _, info := range all {
		if len(info.Boxes) > 0 {
			continue
		}
		err := v.Remove(ctx, info.Name)
		if errors.Is(err, ErrState) || errors.Is(err, ErrNotFound) {
			continue // a box has got it, or it is gone, meanwhile
		}
		if err != nil {
			return removed, err
		}
		removed = append(removed, info)
	}
	return removed, nil
}

// used lists the boxes of each volume.
func (v *localVolumes) used(ctx context.Context) (map[string][]string, error) {
	rows, err := v.rt.store.Boxes(ctx)
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, row := range rows {
		o, err := decodeOptions(row)
		if err != nil {
			return nil, err
		}
		box := row.Name
		if box == "" {
			box = row.ID
		}
		for _, x := range o.Volumes {
			if x.Name != "" && !slices.Contains(used[x.Name], box) {
				used[x.Name] = append(used[x.Name], box)
			}
		}
	}
	return used, nil
}

func (v *localVolumes) info(ctx context.Context, name string, used map[string][]string) (VolumeInfo, error) {
	if !nameRE.MatchString(name) {
		return VolumeInfo{}, errNoVolume
	}
	dir := v.rt.volumeDir(name)
	st, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !st.IsDir() {
		return VolumeInfo{}, errNoVolume
	}
	if err != nil {
		return VolumeInfo{}, err
	}
	created, err := hostos.Born(dir)
	if err != nil {
		return VolumeInfo{}, err
	}
	size, err := diskUse(ctx, dir)
	return VolumeInfo{Name: name, Path: dir, Created: created, Size: size, Boxes: used[name]}, err
}

// diskUse adds up what the files below dir take of the disk. A file with
// several names counts once.
func diskUse(ctx context.Context, dir string) (n int64, err error) {
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{} // of those with several names
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // gone, or not for us to see
		}
		st, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		sys, ok := st.Sys().(*syscall.Stat_t)
		if !ok {
			return nil
		}
		if key := (inode{sys.Dev, sys.Ino}); sys.Nlink > 1 {
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		n += sys.Blocks * 512 // the unit of st_blocks
		return nil
	})
	return n, err
}

// removeTree removes what a box has written. Directories may lack the mode that
// their owner needs to remove what is in them.
func removeTree(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else was at it
	}
	if errors.Is(err, fs.ErrPermission) {
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		root, err = os.OpenRoot(dir)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = root.Chmod(name, 0o700)
		}
		if err != nil && d != nil && d.IsDir() {
			return fs.SkipDir // RemoveAll will say why
		}
		return nil
	})
	return errors.Join(err, os.RemoveAll(dir))
}
