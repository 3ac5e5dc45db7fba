package main

import (
	"context"
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) startCommand() *cobra.Command {
	var secrets secretFlag
	cmd := a.boxesCommand(&cobra.Command{
		Use:   "start [OPTIONS] BOX...",
		Short: "Start boxes",
		Long:  "Start boxes, and the main commands of jobs. A box that runs is left as it is.",
	}, func(ctx context.Context, box *boxlite.Box, key string) error {
		if err := mayStart(ctx, box, key); err != nil {
			return err
		}
		if err := secrets.set(box); err != nil {
			return err
		}
		return box.Start(ctx)
	})
	secrets.register(cmd)
	return cmd
}

// mayStart refuses a box that would end together with this command.
func mayStart(ctx context.Context, box *boxlite.Box, key string) error {
	info, err := box.Info(ctx)
	if err != nil || info.Options.Detach {
		return err
	}
	return fmt.Errorf("box %q ends with the process that starts it, as its maker chose, so it cannot be left running; use %q", key, "boxlite exec "+key)
}

// boxesCommand completes a command that does the same to each box it is given,
// and prints those for which that went well.
func (a *app) boxesCommand(cmd *cobra.Command, do func(ctx context.Context, box *boxlite.Box, key string) error) *cobra.Command {
	cmd.Args = atLeast(1, "BOX...")
	cmd.ValidArgsFunction = a.completeBoxes
	cmd.RunE = a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
		return a.each(cmd, args, func(key string) error {
			box, err := a.box(cmd.Context(), rt, key)
			if err != nil {
				return err
			}
			if err := do(cmd.Context(), box, key); err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, key)
			return nil
		})
	})
	return cmd
}
