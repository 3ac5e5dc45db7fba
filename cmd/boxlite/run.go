package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// runFlags say how run creates a box and what it does with it.
type runFlags struct {
	boxFlags
	stdin   bool
	detach  bool
	remove  bool
	timeout time.Duration
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [OPTIONS] IMAGE [CMD [ARGS...]]",
		Short: "Run a command in a new box",
		Long: `Run a command in a new box. Without CMD it is the image's own.

In the foreground the output is passed on, the exit code is the command's, and
the box is removed at the end, unless --rm=false is given. A signal is passed
on to the command; a second one ends it by force.

With --detach the id of the box is printed, and the box stays after its
command has ended, unless --rm is given.`,
		Example: `  boxlite run python:slim python -c 'print(6*7)'
  boxlite run -it alpine:latest sh
  boxlite run -i --security maximum --memory 1g --timeout 30s python:slim python - < job.py`,
		ValidArgsFunction: a.completeImage,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.run(cmd, rt, &f, args)
		}),
	}
	f.register(cmd)
	fs := cmd.Flags()
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "pass on standard input")
	fs.BoolVarP(&f.detach, "detach", "d", false, "leave the box running and print its id")
	fs.BoolVar(&f.remove, "rm", false, "remove the box when its command has ended (default in the foreground)")
	fs.Var(seconds(&f.timeout), "timeout", "kill the command after this time, as in 30s")
	return cmd
}

func (a *app) run(cmd *cobra.Command, rt *boxlite.Runtime, f *runFlags, args []string) error {
	ctx := cmd.Context()
	o, err := f.options(cmd, args, a.away)
	if err != nil {
		return err
	}
	switch {
	case f.detach && f.timeout > 0:
		return usagef("--timeout needs the foreground; leave out --detach")
	case f.detach && f.stdin && !f.process.tty:
		return usagef("--interactive needs the foreground or --tty; leave out --detach")
	}
	o.AutoRemove = f.remove || !f.detach && !cmd.Flags().Changed("rm")
	// A box that is kept can later be started to stay.
	o.Detach = f.detach || !o.AutoRemove
	s, err := a.session(ctx, f.stdin, f.process.tty && !f.detach)
	if err != nil {
		return err
	}
	if err := a.mainCommand(ctx, rt, f.pull, &o); err != nil {
		return err
	}
	box, err := rt.Create(ctx, o)
	if err != nil {
		return err
	}
	if f.detach {
		return a.runDetached(ctx, box)
	}
	main := box.Main(s.ctx)
	main.Timeout = f.timeout
	return a.removeFailed(ctx, box, o.AutoRemove, s.run(main))
}

// mainCommand gets the image, and takes its command when there is no other.
func (a *app) mainCommand(ctx context.Context, rt *boxlite.Runtime, pull string, o *boxlite.BoxOptions) error {
	given := len(o.Cmd)+len(o.Entrypoint) > 0
	if o.Rootfs != "" {
		if !given {
			return usagef("want CMD: with --rootfs there is no default")
		}
		return nil
	}
	img, err := a.image(ctx, rt, o.Image, pull)
	if err != nil || given {
		return err
	}
	o.Entrypoint, o.Cmd = img.Config.Entrypoint, img.Config.Cmd
	if len(o.Cmd)+len(o.Entrypoint) == 0 {
		return usagef("image %q has no command of its own: give one after it", o.Image)
	}
	return nil
}

func (a *app) runDetached(ctx context.Context, box *boxlite.Box) error {
	if err := box.Start(ctx); err != nil {
		return a.removeFailed(ctx, box, true, err)
	}
	fmt.Fprintln(a.stdout, box.ID())
	return nil
}

// removeFailed removes a box that did not get as far as removing itself.
func (a *app) removeFailed(ctx context.Context, box *boxlite.Box, remove bool, err error) error {
	if err == nil || !remove || isExit(err) {
		return err
	}
	ctx, cancel := cleanUp(ctx)
	defer cancel()
	return errors.Join(err, box.Remove(ctx, boxlite.RemoveOptions{Force: true}))
}

// isExit tells whether the command ran to its end.
func isExit(err error) bool {
	_, ok := errors.AsType[*boxlite.ExitError](err)
	return ok
}
