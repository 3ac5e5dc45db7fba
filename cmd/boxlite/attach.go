package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// mainExecution is the id of a job's main command.
const mainExecution = "main"

func (a *app) attachCommand() *cobra.Command {
	var noStdin bool
	cmd := &cobra.Command{
		Use:   "attach [OPTIONS] BOX [EXECUTION]",
		Short: "Follow a command that runs in a box",
		Long: `Follow a command that runs in a box: its main command, or the execution whose
id exec --detach printed. What it wrote before is replayed as far as the box
has kept it. The exit code is the command's; signals are passed on to it.`,
		Args:              between(1, 2, "BOX, and at most one EXECUTION"),
		ValidArgsFunction: a.completeExecution,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			id := mainExecution
			if len(args) > 1 {
				id = args[1]
			}
			return a.attach(cmd, rt, args[0], id, !noStdin)
		}),
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not pass on standard input")
	return cmd
}

func (a *app) attach(cmd *cobra.Command, rt *boxlite.Runtime, key, id string, stdin bool) error {
	box, err := a.box(cmd.Context(), rt, key)
	if err != nil {
		return err
	}
	list, err := box.Executions(cmd.Context())
	if err != nil {
		return err
	}
	for _, x := range list {
		if x.ID != id {
			continue
		}
		s, err := a.session(cmd.Context(), stdin, x.TTY && isTerminal(a.stdin))
		if err != nil {
			return err
		}
		return s.run(box.Attach(s.ctx, id))
	}
	if id == mainExecution {
		return fmt.Errorf("box %q has no main command; name an execution: %q lists them", key, "boxlite inspect "+key)
	}
	return fmt.Errorf("box %q has no execution %q, or no longer; %q lists them", key, id, "boxlite inspect "+key)
}
