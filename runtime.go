package boxlite

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// Engine makes the boundary of boxes. Packages such as gvisor have one.
type Engine = engine.Engine

// Config opens a runtime. The zero value works with an installed boxlite
// binary.
type Config struct {
	// Home is the directory of the runtime's boxes and images, made with mode
	// 0700 if missing. Empty means .boxlite in the user's home directory.
	Home string

	// Engine to run boxes with. Nil means the first engine of the helper. The
	// program must call [RunHelper] with the same engine first in main, unless
	// Helper names another executable that has it.
	Engine Engine

	// Helper is the executable that owns running boxes. Empty means this
	// program if Engine is set, else the boxlite beside it or in PATH.
	Helper string

	// Registries and Mirrors say where images come from. Without any they
	// come from where their names say, over https.
	Registries []Registry
	Mirrors    []Mirror

	// AllowAbsoluteNames takes images whose layers name files with a leading
	// slash, as below the root of the image. Some builders write such layers;
	// without it they are refused, like every other name that leads elsewhere.
	AllowAbsoluteNames bool

	// Resolver is the DNS server that is asked for the boxes, IP or IP:PORT.
	// Empty means what this host is configured with.
	Resolver string

	// Logger gets state changes; nil is silent.
	Logger *slog.Logger

	// Trace is told of the steps of what the runtime does; nil: nobody is.
	Trace Tracer
}

// Runtime is where boxes and images are kept: a home directory of this host,
// which any number of processes may open at once, or a server. It is safe for
// concurrent use.
type Runtime struct {
	on backend
}

// Open opens the runtime of a home directory, makes it if needed, and clears
// what a crash of any process has left there. The caller closes it.
func Open(ctx context.Context, c Config) (*Runtime, error) {
	l, err := openLocal(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Runtime{l}, nil
}

// Create makes a box and returns it. Nothing is pulled or started before its
// first use. The error is [ErrInvalid] or [ErrExists] when the options are to
// blame, [ErrNotFound] when a volume is missing on the host.
func (r *Runtime) Create(ctx context.Context, o BoxOptions) (*Box, error) { return r.on.Create(ctx, o) }

// GetOrCreate returns the box of that name, or creates it. The options are
// ignored when it exists. The bool tells whether it was created.
func (r *Runtime) GetOrCreate(ctx context.Context, o BoxOptions) (*Box, bool, error) {
	for o.Name != "" {
		b, err := r.on.named(ctx, o.Name)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return b, false, err
		}
		// Another process may create it now; then we go round once more.
		b, err = r.Create(ctx, o)
		if !errors.Is(err, ErrExists) {
			return b, err == nil, err
		}
		if ctx.Err() != nil {
			return nil, false, &Error{"create", o.Name, context.Cause(ctx)}
		}
	}
	b, err := r.Create(ctx, o)
	return b, err == nil, err
}

// Box returns the box with that id, name, or unique beginning of an id. The
// error is [ErrNotFound] when there is none, [ErrInvalid] when several fit.
func (r *Runtime) Box(ctx context.Context, key string) (*Box, error) { return r.on.Box(ctx, key) }

// Boxes returns what is known of all boxes, oldest first.
func (r *Runtime) Boxes(ctx context.Context) ([]BoxInfo, error) { return r.on.Boxes(ctx) }

// RemoveOptions says how to remove a box.
type RemoveOptions struct {
	Force bool // stop it first if it runs, without saving its files
}

// Remove deletes a box and all it wrote. The error is [ErrNotFound] when there
// is none, [ErrState] when it runs and Force is not set.
func (r *Runtime) Remove(ctx context.Context, key string, o RemoveOptions) error {
	b, err := r.Box(ctx, key)
	if err != nil {
		return err
	}
	return b.Remove(ctx, o)
}

// Info describes the runtime.
func (r *Runtime) Info(ctx context.Context) (Info, error) { return r.on.Info(ctx) }

// Identity is who a server takes the caller for.
type Identity struct {
	Name   string   // of the key; "local" for the user who runs the server, and without one
	Scopes []string // what it may do; nil without a server: all
}

// Whoami asks who the caller is. The error is [ErrUnauthorized] when a server
// does not know the key.
func (r *Runtime) Whoami(ctx context.Context) (Identity, error) { return r.on.Whoami(ctx) }

// EngineStatus says whether an engine works on this host.
type EngineStatus struct {
	Name string
	Err  error // nil: it works, proven by booting; else what is missing and what to do
	Took time.Duration
}

// Engines checks the engines of this runtime by booting with each.
func (r *Runtime) Engines(ctx context.Context) []EngineStatus { return r.on.Engines(ctx) }

// Images returns the image store.
func (r *Runtime) Images() *Images { return &Images{r.on.images()} }

// Volumes returns the named volumes.
func (r *Runtime) Volumes() *Volumes { return &Volumes{r.on.volumes()} }

// Close lets go of the runtime: attached boxes that it started end, detached
// ones go on. It waits for the former.
func (r *Runtime) Close() error { return r.on.Close() }
