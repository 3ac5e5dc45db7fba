package main

import (
	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "restart BOX...",
		Short:             "Stop boxes and start them again",
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
				if err := box.Stop(cmd.Context()); err != nil {
					return err
				}
				return a.start(cmd.Context(), box, key)
			})
		}),
	}
}
