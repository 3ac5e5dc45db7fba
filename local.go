package boxlite

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/image"
	"github.com/boxlite-go/boxlite/internal/shim"
	"github.com/boxlite-go/boxlite/internal/store"
)

// local is one home directory of boxes and images on this host. Any number of
// processes may open the same home at once. It is safe for concurrent use.
type local struct {
	home   string
	engine string
	helper string
	log    *slog.Logger
	trace  Tracer // nil: nobody is told
	store  *store.Store
	image  *image.Store

	resolver netip.AddrPort

	mu       sync.Mutex
	closed   bool
	shims    map[string]*shim.Process // started by us, by box id
	starting map[string]chan struct{} // whose turn it is to start a box, by id
}

func openLocal(ctx context.Context, c Config) (*local, error) {
	r := &local{log: c.Logger, trace: c.Trace, shims: map[string]*shim.Process{}, starting: map[string]chan struct{}{}}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if r.home, err = makeHome(c.Home); err != nil {
		return nil, &Error{"open", c.Home, err}
	}
	if r.helper, err = findHelper(c); err != nil {
		return nil, &Error{"open", r.home, err}
	}
	if r.resolver, err = parseResolver(c.Resolver); err != nil {
		return nil, &Error{"open", r.home, err}
	}
	if c.Engine != nil {
		r.engine = c.Engine.Name()
	}
	if r.image, err = image.Open(imageConfig(r, c)); err != nil {
		return nil, &Error{"open", r.home, err}
	}
	if r.store, err = store.Open(r.database()); err != nil {
		return nil, &Error{"open", r.home, err}
	}
	if err := r.recover(ctx); err != nil {
		return nil, errors.Join(&Error{"open", r.home, err}, r.store.Close())
	}
	return r, nil
}

func makeHome(home string) (string, error) {
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("%w; set Config.Home", err)
		}
		home = filepath.Join(user, ".boxlite")
	}
	home, err := filepath.Abs(home)
	if err == nil {
		err = checkText(home)
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return "", err
	}
	// Everything below is private because nobody else may enter here.
	if err := os.Chmod(home, 0o700); err != nil {
		return "", fmt.Errorf("%w; the home must belong to the user of boxlite", err)
	}
	return home, os.MkdirAll(filepath.Join(home, "boxes"), 0o700)
}

// findHelper returns the executable that owns boxes.
func findHelper(c Config) (string, error) {
	if c.Helper != "" {
		return exec.LookPath(c.Helper)
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if c.Engine != nil {
		return self, nil
	}
	beside := filepath.Join(filepath.Dir(self), "boxlite")
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	}
	path, err := exec.LookPath("boxlite")
	if err != nil {
		return "", fmt.Errorf("%w: no boxlite binary beside %s or in PATH; install one, or set Config.Helper or Config.Engine", ErrUnsupported, self)
	}
	return path, nil
}

func (r *local) database() string { return filepath.Join(r.home, "boxlite.db") }

func (r *local) dir(id string) string { return filepath.Join(r.home, "boxes", id) }

// recover clears what dead processes left: directories without a row, states
// of boxes whose shim is gone, boxes to be removed when they stop.
func (r *local) recover(ctx context.Context) error {
	if err := r.openVolumes(); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(r.home, "boxes"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.recoverBox(ctx, e.Name()); err != nil {
			// One damaged box must not lock the user out of the others.
			r.log.Warn("box not recovered", slog.String("box", e.Name()), slog.Any("err", err))
		}
	}
	return nil
}

func (r *local) recoverBox(ctx context.Context, id string) error {
	dir := r.dir(id)
	lock, err := shim.Lock(dir)
	if errors.Is(err, hostos.ErrLocked) {
		return nil // it runs, or somebody creates or removes it
	}
	if errors.Is(err, fs.ErrNotExist) {
		return r.recoverBare(ctx, id)
	}
	if err != nil {
		return err
	}
	defer lock.Unlock()
	row, err := r.store.Get(ctx, id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return shim.Delete(dir, id)
	case err != nil:
		return err
	}
	run, err := shim.Read(dir)
	if o, e := decodeOptions(row); e == nil && err == nil && o.AutoRemove && run.State != "" {
		if err := r.store.Remove(ctx, id); err != nil {
			return err
		}
		return shim.Delete(dir, id)
	}
	return shim.Recover(dir, id)
}

// bareAge is how old a directory without a lock file must be to count as
// left over: making one takes a millisecond.
const bareAge = time.Minute

// recoverBare deals with a directory that was being made or deleted when its
// maker died.
func (r *local) recoverBare(ctx context.Context, id string) error {
	dir := r.dir(id)
	st, err := os.Lstat(dir)
	if err != nil || time.Since(st.ModTime()) < bareAge {
		return nil
	}
	if _, err := r.store.Get(ctx, id); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return shim.Delete(dir, id)
}

func (r *local) Create(ctx context.Context, o BoxOptions) (*Box, error) {
	o, err := o.withDefaults()
	if err == nil {
		err = checkImage(o)
	}
	if err != nil {
		return nil, &Error{"create", o.Name, err}
	}
	b, err := r.create(ctx, o)
	if err != nil {
		return nil, &Error{"create", o.Name, err}
	}
	r.log.Info("box created", slog.String("box", b.id), slog.String("image", o.Image))
	return b.handle(), nil
}

func (r *local) create(ctx context.Context, o BoxOptions) (_ *localBox, err error) {
	ctx, end := r.trace.step(ctx, "box.create", slog.String("image", o.Image))
	defer func() { end(err) }()
	if err := r.open(); err != nil {
		return nil, err
	}
	release, err := r.holdVolumes(o.Volumes)
	if err != nil {
		return nil, err
	}
	defer release()
	var values map[string]string
	o.Secrets, values = withoutValues(o.Secrets)
	options, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	row := store.Box{ID: newID(), Name: o.Name, Created: time.Now(), Options: options}
	dir := r.dir(row.ID)
	lock, err := shim.Prepare(dir)
	if err == nil {
		defer lock.Unlock()
		err = r.store.Add(ctx, row)
	}
	if err != nil {
		if errors.Is(err, store.ErrExists) {
			err = fmt.Errorf("%w: the name is taken; choose another, or remove the box that has it", ErrExists)
		}
		return nil, errors.Join(spaceErr(err), os.RemoveAll(dir))
	}
	return &localBox{rt: r, id: row.ID, name: o.Name, options: o, created: row.Created, values: values}, nil
}

// newID returns 12 characters of the 32 of base32 in lower case: 60 random
// bits, never a valid number, safe in paths and host names.
func newID() string {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	b := make([]byte, 12)
	_, _ = rand.Read(b)
	for i, v := range b {
		b[i] = digits[v%32]
	}
	b[0] = digits[b[0]%26] // begins with a letter
	return string(b)
}

func (r *local) named(ctx context.Context, name string) (*Box, error) {
	row, err := r.store.Named(ctx, name)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("box %w", ErrNotFound)
	}
	if err != nil {
		return nil, &Error{"get", name, err}
	}
	b, err := r.box(row)
	if err != nil {
		return nil, &Error{"get", name, err}
	}
	return b.handle(), nil
}

func (r *local) Box(ctx context.Context, key string) (*Box, error) {
	row, err := r.store.Find(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = fmt.Errorf("box %w", ErrNotFound)
	case errors.Is(err, store.ErrAmbiguous):
		err = fmt.Errorf("%w: several boxes begin with it; give more of the id", ErrInvalid)
	}
	if err != nil {
		return nil, &Error{"get", key, err}
	}
	b, err := r.box(row)
	if err != nil {
		return nil, &Error{"get", key, err}
	}
	return b.handle(), nil
}

func (r *local) box(row store.Box) (*localBox, error) {
	o, err := decodeOptions(row)
	if err != nil {
		return nil, err
	}
	return &localBox{rt: r, id: row.ID, name: row.Name, options: o, created: row.Created}, nil
}

func decodeOptions(row store.Box) (o BoxOptions, err error) {
	if err := json.Unmarshal(row.Options, &o); err != nil {
		return o, fmt.Errorf("stored options of box %s: %w", row.ID, err)
	}
	return o, nil
}

func (r *local) Boxes(ctx context.Context) ([]BoxInfo, error) {
	rows, err := r.store.Boxes(ctx)
	if err != nil {
		return nil, &Error{"list", "", err}
	}
	infos := make([]BoxInfo, 0, len(rows))
	for _, row := range rows {
		b, err := r.box(row)
		if err != nil {
			return nil, &Error{"list", row.ID, err}
		}
		info, err := b.Info(ctx)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (r *local) Info(ctx context.Context) (Info, error) {
	boxes, err := r.Boxes(ctx)
	if err != nil {
		return Info{}, err
	}
	images, err := r.image.Images(ctx)
	if err != nil {
		return Info{}, &Error{"info", "", err}
	}
	info := Info{
		Version: Version(), Home: r.home, Engine: r.engine, Boxes: map[State]int{}, Images: len(images),
		OS: runtime.GOOS, Arch: runtime.GOARCH,
	}
	for _, b := range boxes {
		info.Boxes[b.State]++
	}
	return info, nil
}

func (r *local) Whoami(context.Context) (Identity, error) { return Identity{Name: "local"}, nil }

func (r *local) Close() error {
	r.mu.Lock()
	shims := r.shims
	closed := r.closed
	r.closed, r.shims = true, nil
	r.mu.Unlock()
	if closed {
		return nil
	}
	for _, p := range shims {
		p.Close()
	}
	for _, p := range shims {
		if p.Attached {
			<-p.Done()
		}
	}
	return r.store.Close()
}

// open fails after Close.
func (r *local) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrRuntimeClosed
	}
	return nil
}
