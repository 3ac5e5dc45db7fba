package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) pruneCommand() *cobra.Command {
	var all, force bool
	cmd := &cobra.Command{
		Use:   "prune [OPTIONS]",
		Short: "Remove images that nothing needs",
		Long: `Remove images without a name that no box was made from, and what interrupted
pulls have left. With --all also images with a name that no box was made from.`,
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			if all {
				if err := a.confirm(force, "remove all images that no box was made from"); err != nil {
					return err
				}
			}
			removed, freed, err := rt.Images().Prune(cmd.Context(), all)
			for _, img := range removed {
				name := img.Ref
				if name == "" {
					name = img.Digest
				}
				fmt.Fprintln(a.stdout, "Removed:", name)
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "Freed:", humanSize(freed))
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "images with a name too")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "ask nothing")
	return cmd
}
