package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// execFlags say how exec runs a command.
type execFlags struct {
	process  processFlags
	security securityFlags
	secrets  secretFlag
	stdin    bool
	detach   bool
	timeout  time.Duration
}

func (a *app) execCommand() *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec [OPTIONS] BOX [--] CMD [ARGS...]",
		Short: "Run a command in a box",
		Long: `Run a command in a box, which is started if it does not run. A job that does
not run must be started by start.

The exit code is the command's. A signal is passed on to the command; a second
one ends it by force. With --detach the id of the execution is printed, for
attach.`,
		Example: `  boxlite exec work python -c 'print(6*7)'
  boxlite exec -it work sh
  boxlite exec --timeout 30s --security maximum work ./untrusted`,
		Args:              atLeast(2, "BOX and CMD"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.exec(cmd, rt, &f, args)
		}),
	}
	f.process.register(cmd)
	f.security.register(cmd)
	f.secrets.register(cmd)
	fs := cmd.Flags()
	fs.SetInterspersed(false) // what follows BOX belongs to the command
	fs.BoolVarP(&f.stdin, "interactive", "i", false, "pass on standard input")
	fs.BoolVarP(&f.detach, "detach", "d", false, "leave the command running and print the id of the execution")
	fs.Var(seconds(&f.timeout), "timeout", "kill the command after this time, as in 30s")
	return cmd
}

func (a *app) exec(cmd *cobra.Command, rt *boxlite.Runtime, f *execFlags, args []string) error {
	key, args := args[0], args[1:]
	if args[0] == "--" {
		args = args[1:]
	}
	switch {
	case len(args) == 0:
		return usagef("want CMD after --")
	case f.detach && f.stdin:
		return usagef("--interactive needs the foreground; leave out --detach")
	}
	s, err := a.session(cmd.Context(), f.stdin, f.process.tty && !f.detach)
	if err != nil {
		return err
	}
	box, err := a.box(cmd.Context(), rt, key)
	if err != nil {
		return err
	}
	if err := f.secrets.set(box); err != nil {
		return err
	}
	c := box.Command(s.ctx, args[0], args[1:]...)
	c.Env, c.Dir, c.User, c.Timeout = f.process.environment(), f.process.dir, f.process.user, f.timeout
	if f.security.changed(cmd) {
		info, err := box.Info(cmd.Context())
		if err != nil {
			return err
		}
		sec, err := f.security.options(cmd, info.Options.Security)
		if err != nil {
			return err
		}
		c.Security = &sec
	}
	if f.detach {
		return a.execDetached(c, f.process.tty)
	}
	return s.run(c)
}

func (a *app) execDetached(c *boxlite.Cmd, tty bool) error {
	if tty {
		c.Terminal = &boxlite.Terminal{}
	}
	if err := c.Start(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(a.stdout, c.ID())
	return errors.Join(err, c.Detach())
}
