package gvisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime/debug"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/pattern"
	"github.com/boxlite-go/boxlite/internal/undo"
)

// Name of the engine, as stored with each box.
const Name = "gvisor"

// Options of the engine. The zero value is ready for use.
type Options struct {
	// AgentImage is an EROFS file with the guest agent as /agent. Empty: made
	// from the agent built into this program, once, in CacheDir.
	AgentImage string
	// CacheDir is where the engine keeps what every machine shares. It is made
	// if missing and must belong to the user alone. Empty: a directory
	// "boxlite/engine" in the user's cache directory or, without one, in a
	// private directory of the system's temporary directory.
	CacheDir string
	// Logger gets what happens to machines. Nil is silent.
	Logger *slog.Logger
	// DebugDir, if not empty, is an existing directory that gets one log of
	// the sentry for each machine, <id>.log. It slows machines down.
	DebugDir string
}

// Engine starts machines on gVisor. It is safe for concurrent use.
type Engine struct {
	opts  Options
	log   *slog.Logger
	agent agentImage
}

// New returns an engine. It touches nothing until its first machine starts.
func New(o Options) *Engine {
	l := o.Logger
	if l == nil {
		l = slog.New(slog.DiscardHandler)
	}
	return &Engine{opts: o, log: l.With(slog.String("engine", Name))}
}

// Name implements engine.Engine.
func (*Engine) Name() string { return Name }

// Version is that of the gVisor linked into this program, as go.mod pins it;
// "unknown" where the program carries no build information.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path == "gvisor.dev/gvisor" {
			return m.Version
		}
	}
	return "unknown"
}

// Start implements engine.Engine. The machine implements engine.DiskSaver and
// engine.Statser too.
func (e *Engine) Start(ctx context.Context, s engine.Spec) (engine.Machine, error) {
	if err := checkSpec(s); err != nil {
		return nil, fmt.Errorf("%s: %w", Name, err)
	}
	if err := checkHost(); err != nil {
		return nil, err
	}
	if err := checkReduced(s); err != nil {
		return nil, err
	}
	m, err := e.start(ctx, s)
	var unsupported *engine.Unsupported
	switch {
	case errors.As(err, &unsupported):
		return nil, unsupported // says all there is to say
	case err != nil:
		return nil, fmt.Errorf("%s: start %s: %w", Name, s.ID, err)
	}
	return m, nil
}

func (e *Engine) start(ctx context.Context, s engine.Spec) (_ *machine, err error) {
	var u undo.Stack
	defer u.Run()

	agent, err := e.agent.open(e.opts)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	layer, err := openLayer(s.Disk)
	if err != nil {
		return nil, keptLayer(s.Disk, err)
	}
	volumes, err := openVolumes(s.Volumes)
	if err != nil {
		layer.Close()
		return nil, err
	}
	defer volumes.close()
	m, err := e.launch(s, agent, layer, volumes)
	if err != nil {
		layer.Close()
		return nil, err
	}
	u.Add(m.kill)
	if err := m.boot(ctx); err != nil {
		if errors.Is(err, ErrDamaged) {
			return nil, keptLayer(s.Disk, err)
		}
		// The sentry's last words say more than the broken pipe we saw.
		m.kill()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if cause, ok := errors.AsType[*mountError](err); ok {
			return nil, cause
		}
		if cause := m.files.failure(); cause != nil {
			return nil, diagnoseBoot(cause, cause.Error())
		}
		return nil, diagnoseBoot(errors.Join(err, m.lastWords()), m.proc.words.String())
	}
	u.Keep()
	return m, nil
}

// keptLayer says how to go on when a saved layer cannot be read.
func keptLayer(disk string, err error) error {
	return fmt.Errorf("%w; the files of the box are left as they are in %s: put back a copy of that directory, or remove the box", err, disk)
}

var idPattern = pattern.New(`^[a-z0-9]{1,32}$`)

// checkSpec refuses what would be our caller's mistake.
func checkSpec(s engine.Spec) error {
	switch {
	case !idPattern.MatchString(s.ID):
		return fmt.Errorf("id %q: want 1 to 32 of [a-z0-9]", s.ID)
	case !filepath.IsAbs(s.Dir), !filepath.IsAbs(s.Disk), !filepath.IsAbs(s.Rootfs):
		return fmt.Errorf("paths of %s are not all absolute: %q, %q, %q", s.ID, s.Dir, s.Disk, s.Rootfs)
	case s.DiskSize <= 0, s.Memory <= 0, s.CPUs <= 0:
		return fmt.Errorf("sizes of %s are not all positive: disk %d, memory %d, cpus %d", s.ID, s.DiskSize, s.Memory, s.CPUs)
	}
	return errors.Join(checkNIC(s.NIC), engine.CheckVolumes(s.Volumes))
}
