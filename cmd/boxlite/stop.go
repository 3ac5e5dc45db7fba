package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop BOX...",
		Short: "Stop boxes",
		Long: `Stop boxes: their commands get SIGTERM, and SIGKILL after ten seconds, and the
files are saved. A box that does not run is left as it is.`,
		Args:              atLeast(1, "BOX..."),
		ValidArgsFunction: a.completeBoxes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.each(cmd, args, func(key string) error {
				box, err := a.box(cmd.Context(), rt, key)
				if err != nil {
					return err
				}
				if err := box.Stop(cmd.Context()); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, key)
				return nil
			})
		}),
	}
}
