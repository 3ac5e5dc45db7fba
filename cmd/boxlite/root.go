package main

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// app is one run of the command line: its streams, its signals, and the
// global flags once they are parsed.
type app struct {
	engine  boxlite.Engine
	stdin   *os.File
	stdout  io.Writer
	stderr  io.Writer
	signals *signals
	globals globals
	away    bool // the runtime that was opened is that of a server
}

// Main runs the command line of this process on an engine and returns the exit
// code. The caller has called [boxlite.RunHelper] with the same engine before.
func Main(e boxlite.Engine) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	a := &app{
		engine:  e,
		stdin:   os.Stdin,
		stdout:  os.Stdout,
		stderr:  os.Stderr,
		signals: watchSignals(cancel),
	}
	defer a.signals.stop()
	cmd, err := a.root().ExecuteContextC(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return a.report(cmd, err)
}

const rootLong = `Boxlite runs untrusted commands in boxes: OCI images behind an isolation
boundary of their own. It needs no daemon and no root.

Exit codes: the command's own; 128+N when signal N ended it; 127 or 126 when
it was not found or cannot be run; 1 any error of boxlite; 2 wrong usage.`

// root builds the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "boxlite",
		Short:         "Run untrusted commands in boxes",
		Long:          rootLong,
		Version:       boxlite.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs,
		RunE:          runRoot,

		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.globals.server.check(cmd) },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("boxlite {{.Version}}\n")
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	a.globals.register(root)
	root.AddGroup(&cobra.Group{ID: "box", Title: "Boxes:"},
		&cobra.Group{ID: "image", Title: "Images:"},
		&cobra.Group{ID: "volume", Title: "Volumes:"},
		&cobra.Group{ID: "system", Title: "This machine:"})
	root.SetHelpCommandGroupID("system")
	root.SetCompletionCommandGroupID("system")
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			c.DisableFlagsInUseLine = true
			root.AddCommand(c)
		}
	}
	add("box", a.runCommand(), a.createCommand(), a.execCommand(), a.attachCommand(), a.listCommand(),
		a.inspectCommand(), a.startCommand(), a.stopCommand(), a.syncCommand(), a.restartCommand(), a.rmCommand(),
		a.cpCommand(), a.logsCommand(), a.statsCommand(), a.networkCommand())
	add("image", a.pullCommand(), a.imagesCommand(), a.rmiCommand(), a.pruneCommand(),
		a.importCommand(), a.loadCommand(), a.saveCommand())
	add("volume", a.volumeCommand())
	add("system", a.serveCommand(), a.infoCommand(), a.doctorCommand(), a.versionCommand(), a.authCommand())
	return root
}

// group makes a command of its commands.
func group(cmd *cobra.Command, cmds ...*cobra.Command) *cobra.Command {
	name, _, _ := strings.Cut(cmd.Use, " ")
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return usagef("no such command %s; see %q", quote(name+" "+args[0]), "boxlite "+name+" --help")
	}
	for _, c := range cmds {
		c.DisableFlagsInUseLine = true
		cmd.AddCommand(c)
	}
	return cmd
}

// runRoot answers a call without a command, or with one there is not.
func runRoot(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	msg := "no such command " + quote(args[0])
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		msg += "; did you mean " + quote(s[0]) + "?"
	}
	return usagef("%s", msg)
}
