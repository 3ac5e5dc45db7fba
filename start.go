package boxlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/image"
	"github.com/boxlite-go/boxlite/internal/shim"
	"github.com/boxlite-go/boxlite/internal/store"
)

func (b *localBox) Start(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = false
	b.mu.Unlock()
	return b.fail("start", b.boot(ctx, false))
}

// boot boots the box. In the foreground the caller runs the main command
// itself, so that it gets all output.
func (b *localBox) boot(ctx context.Context, foreground bool) (err error) {
	ctx, end := b.step(ctx, "box.start")
	defer func() { end(err) }()
	unlock, err := b.rt.lockStart(ctx, b.id)
	if err != nil {
		return err
	}
	defer unlock()
	begun := time.Now()
	for {
		run, err := b.shim().Status(ctx)
		if err == nil && run.State == shim.Running {
			return nil
		}
		if err := b.spawn(ctx, foreground); err == nil {
			b.rt.log.Info("box started", slog.String("box", b.id), slog.Duration("after", time.Since(begun)))
			return nil
		} else if f, ok := errors.AsType[*shim.Fault](err); !ok || f.Kind != shim.KindBusy {
			return commandErr(err)
		}
		// Another process starts, stops or removes it: look again.
		if err := b.awaitTurn(ctx); err != nil {
			return err
		}
	}
}

// awaitTurn waits while another process starts or ends the box.
func (b *localBox) awaitTurn(ctx context.Context) error {
	for {
		if err := pause(ctx); err != nil {
			return err
		}
		run, err := shim.Read(b.dir())
		if err != nil || !run.Active() || run.State == shim.Running {
			return nil
		}
	}
}

// spawn starts the shim.
func (b *localBox) spawn(ctx context.Context, foreground bool) error {
	if err := b.rt.open(); err != nil {
		return err
	}
	row, _, err := b.stored(ctx)
	if err != nil {
		return err
	}
	img, err := b.ensureImage(ctx, row)
	if err != nil {
		return err
	}
	spec := b.spec(img)
	if spec.Machine.Volumes, err = b.rt.resolveVolumes(b.options.Volumes); err != nil {
		return err
	}
	_, o, err := b.stored(ctx) // again: an image may take minutes to come
	if err != nil {
		return err
	}
	if spec.Network, err = b.network(o); err != nil {
		return err
	}
	spec.Attached = spec.Attached || foreground // whoever runs the main command must be there
	if b.options.job() && !foreground {
		main, err := b.mainCommand(nil)
		if err != nil {
			return err
		}
		spec.Main = &main
	}
	p, err := b.spawnShim(ctx, spec)
	if err != nil {
		return err
	}
	if err := b.rt.remember(b.id, p); err != nil {
		return err
	}
	return b.settle(ctx, o)
}

// settle does what is left once the box runs. That nobody waits for it any more
// neither keeps the box from what was decided meanwhile, nor leaves it behind.
func (b *localBox) settle(ctx context.Context, begun BoxOptions) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := b.settleNetwork(ctx, begun); err != nil {
		return errors.Join(err, b.shim().Stop(ctx, shim.StopOptions{}))
	}
	return nil
}

func (b *localBox) spawnShim(ctx context.Context, spec shim.Spec) (*shim.Process, error) {
	ctx, end := b.step(ctx, "shim.spawn")
	p, err := shim.Spawn(ctx, b.rt.helper, spec)
	if err == nil {
		b.booted(ctx, p)
	}
	end(err)
	return p, err
}

func (b *localBox) spec(img *image.Image) shim.Spec {
	o := b.options
	hostname := o.Hostname
	if hostname == "" {
		hostname = b.id
	}
	return shim.Spec{
		Dir:        b.dir(),
		Database:   b.rt.database(),
		Engine:     b.rt.engine,
		Attached:   !o.Detach,
		AutoRemove: o.AutoRemove,

		SaveInterval: cmp.Or(o.SaveInterval, defaultSaveInterval), // boxes of older versions have none
		Health:       (*shim.HealthCheck)(o.HealthCheck),
		Machine: engine.Spec{
			ID:       b.id,
			Hostname: hostname,
			Rootfs:   img.Rootfs,
			DiskSize: int64(o.DiskSizeGB) * 1e9,
			CPUs:     o.CPUs,
			Memory:   int64(o.MemoryMiB) << 20,
			Reduced:  o.Security.ReducedIsolation,

			DropCapabilities: o.Capabilities.dropped(),
		},
	}
}

// ensureImage gets the image of the box. A box stays with the one it was first
// started from, whatever its tag says later.
func (b *localBox) ensureImage(ctx context.Context, row store.Box) (_ *image.Image, err error) {
	ctx, end := b.step(ctx, "image.ensure")
	defer func() { end(err) }()
	if row.Image != "" {
		img, err := b.rt.image.Image(ctx, row.Image)
		if errors.Is(err, image.ErrNotFound) {
			err = fmt.Errorf("%w: image %s, which the box was made from, is not in the store; load or pull it again", ErrNotFound, row.Image)
		}
		if err != nil {
			return nil, imageErr(err)
		}
		b.setImage(img)
		return img, nil
	}
	img, err := b.firstImage(ctx)
	if err != nil {
		return nil, imageErr(err)
	}
	if err := b.rt.store.SetImage(ctx, b.id, img.Digest); err != nil {
		return nil, err
	}
	b.setImage(img)
	return img, nil
}

func (b *localBox) firstImage(ctx context.Context) (*image.Image, error) {
	if b.options.Rootfs == "" {
		return b.rt.image.Ensure(ctx, b.options.Image, image.PullOptions{})
	}
	return b.rt.loadRootfs(ctx, b.options.Rootfs)
}

// setImage remembers the image and returns its configuration.
func (b *localBox) setImage(img *image.Image) ImageConfig {
	c := publicConfig(img.Config)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = &c
	return c
}

// mainCommand is the main command of a job. The image must be known.
func (b *localBox) mainCommand(term *Terminal) (guest.Command, error) {
	b.mu.Lock()
	config := *b.config
	b.mu.Unlock()
	o := b.options
	args := append(append([]string{}, o.Entrypoint...), o.Cmd...)
	if len(o.Entrypoint) == 0 {
		args = append(append([]string{}, config.Entrypoint...), o.Cmd...)
	}
	if len(args) == 0 {
		return guest.Command{}, fmt.Errorf("%w: neither the box nor its image has a command", ErrInvalid)
	}
	c := b.guestCommand(config, args, nil, "", "")
	c.ID = shim.MainID
	if o.TTY {
		c.TTY = &guest.Size{}
		if term != nil {
			c.TTY = &guest.Size{Rows: term.Rows, Cols: term.Cols}
		}
	}
	return c, nil
}

// guestCommand puts together what the image, the box and the call say.
func (b *localBox) guestCommand(config ImageConfig, args, env []string, dir, user string) guest.Command {
	o := b.options
	c := guest.Command{Args: args, Env: mergeEnv(config.Env, secretEnv(o.Secrets), o.Env, env), Limits: limits(o.Security)}
	for _, d := range []string{dir, o.WorkingDir, config.WorkingDir} {
		if c.Dir == "" {
			c.Dir = d
		}
	}
	// Made if missing: the working directory of the box and of the image, as
	// docker does, but not one that a single call mistyped.
	c.MakeDir = dir == "" || dir == o.WorkingDir
	for _, u := range []string{user, o.User, config.User} {
		if c.User == "" {
			c.User = u
		}
	}
	return c
}

func limits(s SecurityOptions) guest.Limits {
	return guest.Limits{
		OpenFiles:    uint64(s.MaxOpenFiles),
		FileSize:     uint64(s.MaxFileSize),
		Processes:    uint64(s.MaxProcesses),
		AddressSpace: uint64(s.MaxMemory),
		CPUTime:      s.MaxCPUTime,
	}
}

// lockStart makes the starts of one box in this process take turns. Between
// processes the lock in the box's directory does.
func (r *local) lockStart(ctx context.Context, id string) (unlock func(), err error) {
	r.mu.Lock()
	turn := r.starting[id]
	if turn == nil {
		turn = make(chan struct{}, 1)
		r.starting[id] = turn
	}
	r.mu.Unlock()
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// remember keeps the shim of a box we started, to hold on to an attached box
// and to reap the process.
func (r *local) remember(id string, p *shim.Process) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		p.Close()
		return ErrRuntimeClosed
	}
	r.forgetEndedLocked(time.Now())
	r.shims[id] = p
	return nil
}

// endKept is how long it is remembered how a box has ended that removed itself,
// for those who had a command in it: far longer than anybody takes to wait for it.
const endKept = 10 * time.Minute

// forgetEndedLocked forgets boxes that have ended by themselves.
func (r *local) forgetEndedLocked(now time.Time) {
	for id, p := range r.shims {
		if closed(p.Done()) && now.Sub(p.Last().Finished) > endKept {
			delete(r.shims, id)
			delete(r.starting, id)
		}
	}
}

// forget returns the shim of a box if we started it.
func (r *local) forget(id string) *shim.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.shims[id]
	delete(r.shims, id)
	delete(r.starting, id)
	return p
}

func (r *local) Engines(ctx context.Context) []EngineStatus {
	begun := time.Now()
	p, err := shim.Spawn(ctx, r.helper, shim.Spec{Engine: r.engine, Check: true, Database: r.database()})
	if err == nil {
		p.Close()
		<-p.Done()
	}
	if f, ok := errors.AsType[*shim.Fault](err); ok && f.Kind == shim.KindUnsupported {
		err = fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return []EngineStatus{{Name: r.engine, Err: err, Took: time.Since(begun)}}
}
