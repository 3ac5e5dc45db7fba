package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) rmiCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rmi IMAGE...",
		Short:             "Remove images",
		Long:              "Remove images. One that a box was made from stays until the box is removed.",
		Args:              atLeast(1, "IMAGE..."),
		ValidArgsFunction: a.completeImages,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.each(cmd, args, func(ref string) error {
				freed, err := rt.Images().Remove(cmd.Context(), ref)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "Removed: %s (%s freed)\n", ref, humanSize(freed))
				return nil
			})
		}),
	}
}
