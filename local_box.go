package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/shim"
	"github.com/boxlite-go/boxlite/internal/store"
)

// localBox is a handle of a box on this host. It implements boxBackend.
type localBox struct {
	rt      *local
	id      string
	name    string
	options BoxOptions
	created time.Time

	mu      sync.Mutex
	config  *ImageConfig      // of the image, once known
	stopped bool              // by this handle
	oomSeen int64             // memory kills already reported
	values  map[string]string // of secrets, by name
}

func (b *localBox) handle() *Box { return &Box{b.id, b.name, b.rt.log, b} }

func (b *localBox) dir() string { return b.rt.dir(b.id) }

func (b *localBox) shim() *shim.Client { return shim.NewClient(b.dir()) }

// fail names the box in an error and its condition.
func (b *localBox) fail(op string, err error) error { return failBox(b, b.label(), op, err) }

func (b *localBox) label() string { return boxLabel(b.id, b.name) }

// condition finds the public condition behind an internal error.
func (b *localBox) condition(err error) error {
	f, _ := errors.AsType[*shim.Fault](err)
	switch {
	case errors.Is(err, shim.ErrNotRunning):
		return b.notRunning()
	case errors.Is(err, io.ErrUnexpectedEOF): // of the agent, or of a stream of the caller's
		if died := b.died(context.Background()); !errors.Is(died, errBroke) {
			return died
		}
		return err
	case errors.Is(err, guest.ErrEnded):
		return b.died(context.Background())
	case f == nil:
		return spaceErr(err)
	case f.Kind == shim.KindGone:
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case f.Kind == shim.KindUnsupported:
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case f.Kind == shim.KindNoSpace:
		return fmt.Errorf("%w: %w", ErrExhausted, err)
	case f.Kind == shim.KindTaken:
		return fmt.Errorf("%w: %w", ErrExists, err)
	case f.Kind == shim.KindBusy, f.Kind == shim.KindStopping:
		return fmt.Errorf("%w: %w", ErrState, err)
	}
	return err
}

// notRunning says why a box that should run does not.
func (b *localBox) notRunning() error {
	info, err := b.Info(context.Background())
	switch {
	case errors.Is(err, ErrNotFound):
		return fmt.Errorf("%w: it was removed", ErrNotFound)
	case err != nil:
		return err
	case info.Reason != "":
		return fmt.Errorf("%w: it is %s: %s; start it first", ErrState, info.State, info.Reason)
	}
	return fmt.Errorf("%w: it is %s; start it first", ErrState, info.State)
}

func (b *localBox) Info(ctx context.Context) (BoxInfo, error) {
	row, err := b.rt.store.Get(ctx, b.id)
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("box %w: it was removed", ErrNotFound)
	}
	if err != nil {
		return BoxInfo{}, &Error{"inspect", b.label(), err}
	}
	options, err := decodeOptions(row) // those of the handle may have been changed since
	if err != nil {
		return BoxInfo{}, &Error{"inspect", b.label(), err}
	}
	run, err := shim.Read(b.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		run = shim.Run{State: shim.Failed, Reason: err.Error()}
	}
	if run.State == shim.Running { // the shim knows more than it writes down
		if now, err := b.shim().Status(ctx); err == nil {
			run = now
		}
	}
	info := BoxInfo{
		ID: b.id, Name: b.name, State: publicState(run.State), Reason: run.Reason, Options: options,
		ImageDigest: row.Image, Engine: run.Engine, PID: run.PID, OOM: run.OOM,
		Mounts:  mounted(b.options.Volumes, run.Volumes),
		Created: b.created, Started: run.Started, Finished: run.Finished,
		Saved: run.Saved, Unsaved: run.Unsaved, SaveError: run.SaveError, Health: publicHealth(run),
		DiskBytes: diskBytes(shim.DiskDir(b.dir())), Refusals: lastRefusals(b.dir()),
	}
	if run.Active() {
		info.Ports = publicPorts(run.Ports)
	}
	if run.State != "" {
		info.Isolation = "full"
		if run.Reduced {
			info.Isolation = "reduced"
		}
	}
	if run.Exit != nil {
		info.ExitCode = &run.Exit.Code
	}
	return info, nil
}

func publicState(s shim.State) State {
	switch s {
	case "", shim.Starting:
		return StateConfigured
	default:
		return State(s)
	}
}

// diskBytes adds up the files of a saved layer.
func diskBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if st, err := d.Info(); err == nil {
				n += st.Size()
			}
		}
		return nil
	})
	return n
}

// stopGrace is what commands get between SIGTERM and SIGKILL. Ten seconds is
// docker's default, so images made for it behave the same.
const stopGrace = 10 * time.Second

func (b *localBox) Stop(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	grace := stopGrace
	if d, ok := ctx.Deadline(); ok {
		grace = min(grace, max(0, time.Until(d)/2))
	}
	ctx, end := b.step(ctx, "box.stop")
	err := b.stop(ctx, shim.StopOptions{Grace: grace})
	end(err)
	if err == nil {
		b.rt.log.Info("box stopped", slog.String("box", b.id))
	}
	return b.fail("stop", err)
}

func (b *localBox) stop(ctx context.Context, o shim.StopOptions) error {
	err := b.shim().Stop(ctx, o)
	if errors.Is(err, shim.ErrNotRunning) {
		err = b.awaitEnd(ctx, o)
	}
	if err != nil {
		return err
	}
	return b.reap(ctx)
}

// awaitEnd waits until no shim has the box, and stops one that comes up. It is
// for the moments in which a shim starts or ends, when its socket does not
// answer.
func (b *localBox) awaitEnd(ctx context.Context, o shim.StopOptions) error {
	for {
		run, err := shim.Read(b.dir())
		if err != nil && !errors.Is(err, fs.ErrNotExist) || !run.Active() {
			return nil
		}
		if run.State == shim.Running {
			err := b.shim().Stop(ctx, o)
			if !errors.Is(err, shim.ErrNotRunning) {
				return err
			}
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// reap waits for the shim to be gone as a process, if we started it.
func (b *localBox) reap(ctx context.Context) error {
	p := b.rt.forget(b.id)
	if p == nil {
		return nil
	}
	p.Close()
	select {
	case <-p.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (b *localBox) Remove(ctx context.Context, o RemoveOptions) error {
	ctx, end := b.step(ctx, "box.remove")
	err := b.remove(ctx, o)
	end(err)
	if err == nil {
		b.rt.log.Info("box removed", slog.String("box", b.id))
	}
	return b.fail("remove", err)
}

func (b *localBox) remove(ctx context.Context, o RemoveOptions) error {
	for {
		lock, err := shim.Lock(b.dir())
		switch {
		case err == nil:
			defer lock.Unlock()
			return b.delete(ctx)
		case errors.Is(err, fs.ErrNotExist):
			return b.delete(ctx) // already gone, but for a crash in the middle
		case !errors.Is(err, hostos.ErrLocked):
			return err
		case !o.Force:
			return fmt.Errorf("%w: it is running; stop it first, or remove it by force", ErrState)
		}
		if err := b.stop(ctx, shim.StopOptions{Discard: true}); err != nil {
			return err
		}
		// Who else holds the lock now creates, starts or recovers the box.
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// pause is the time between two looks at a box that another process has.
func pause(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// delete removes the row first: a crash after it leaves a directory without a
// row, which the next Open clears.
func (b *localBox) delete(ctx context.Context) error {
	if err := b.removeRow(ctx); err != nil {
		return err
	}
	return shim.Delete(b.dir(), b.id)
}

func (b *localBox) removeRow(ctx context.Context) error {
	err := b.rt.store.Remove(ctx, b.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (b *localBox) Sync(ctx context.Context) error {
	ctx, end := b.step(ctx, "box.sync")
	err := b.shim().Sync(ctx)
	end(err)
	return b.fail("sync", err)
}

func (b *localBox) Stats(ctx context.Context) (Stats, error) {
	st, traffic, err := b.shim().Stats(ctx)
	if err != nil {
		return Stats{}, b.fail("stats", err)
	}
	run, err := b.shim().Status(ctx)
	if err != nil {
		return Stats{}, b.fail("stats", err)
	}
	xs, err := b.Executions(ctx)
	if err != nil {
		return Stats{}, err
	}
	running := 0
	for _, x := range xs {
		if x.ExitCode == nil {
			running++
		}
	}
	all := Stats{
		CPU: st.CPU, Memory: st.Memory, MemoryLimit: st.MemoryLimit, OOMKills: st.OOMKills,
		Executions: running, Uptime: time.Since(run.Started),
	}
	if traffic != nil {
		all.Network = NetworkStats(*traffic)
	}
	return all, nil
}

func (b *localBox) Executions(ctx context.Context) ([]Execution, error) {
	list, err := guest.NewClient(b.shim().Dial).Executions(ctx)
	if err != nil {
		return nil, b.fail("executions", err)
	}
	out := make([]Execution, len(list))
	for i, x := range list {
		out[i] = publicExecution(x)
	}
	return out, nil
}

// guest is a client of the agent that starts the box when needed.
func (b *localBox) guest() *guest.Client { return guest.NewClient(b.dial) }

// dial opens a stream to the agent, starting the box if it may be started.
func (b *localBox) dial(ctx context.Context) (net.Conn, error) {
	conn, err := b.shim().Dial(ctx)
	if !errors.Is(err, shim.ErrNotRunning) && !errors.Is(err, fs.ErrNotExist) {
		return conn, err
	}
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	if stopped || b.options.job() {
		return nil, b.notRunning()
	}
	if err := b.boot(ctx, false); err != nil {
		return nil, err
	}
	return b.shim().Dial(ctx)
}

// imageConfig returns the configuration of the box's image, starting the box
// if that has not been settled.
func (b *localBox) imageConfig(ctx context.Context) (ImageConfig, error) {
	b.mu.Lock()
	config := b.config
	b.mu.Unlock()
	if config != nil {
		return *config, nil
	}
	row, err := b.rt.store.Get(ctx, b.id)
	if err == nil && row.Image != "" {
		img, err := b.rt.image.Image(ctx, row.Image)
		if err != nil {
			return ImageConfig{}, imageErr(err)
		}
		return b.setImage(img), nil
	}
	conn, err := b.dial(ctx)
	if err != nil {
		return ImageConfig{}, err
	}
	conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.config == nil {
		return ImageConfig{}, fmt.Errorf("%w: its image is not known", ErrState)
	}
	return *b.config, nil
}

// mergeEnv puts KEY=value lists together; a later one replaces an earlier one
// of the same key.
func mergeEnv(lists ...[]string) []string {
	var out []string
	at := map[string]int{}
	for _, kv := range slices.Concat(lists...) {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := at[key]; ok {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	return out
}
