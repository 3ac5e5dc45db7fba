package main

import (
	"context"
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) startCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "start BOX...",
		Short:             "Start boxes",
		Long:              "Start boxes, and the main commands of jobs. A box that runs is left as it is.",
		Args:              atLeast(1, "BOX..."),
		ValidArgsFunction: a.completeBoxes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.each(cmd, args, func(key string) error {
				box, err := a.box(cmd.Context(), rt, key)
				if err != nil {
					return err
				}
				if err := a.mayStart(cmd.Context(), box, key); err != nil {
					return err
				}
				return a.start(cmd.Context(), box, key)
			})
		}),
	}
}

// mayStart refuses a box that would end together with this command.
func (a *app) mayStart(ctx context.Context, box *boxlite.Box, key string) error {
	info, err := box.Info(ctx)
	if err != nil || info.Options.Detach {
		return err
	}
	return fmt.Errorf("box %q ends with the process that starts it, as its maker chose, so it cannot be left running; use %q", key, "boxlite exec "+key)
}

func (a *app) start(ctx context.Context, box *boxlite.Box, key string) error {
	if err := box.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, key)
	return nil
}
