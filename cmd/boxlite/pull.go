package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) pullCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] IMAGE",
		Short: "Get an image from its registry",
		Long: `Get an image from its registry. Only what is missing is downloaded. Credentials
are those of docker login.`,
		Args:              exactly(1, "IMAGE"),
		ValidArgsFunction: a.completeImage,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			img, err := a.pull(cmd.Context(), args[0], rt.Images().Pull)
			if err != nil {
				return err
			}
			if quiet {
				fmt.Fprintln(a.stdout, img.ConfigDigest)
				return nil
			}
			fmt.Fprintf(a.stdout, "Pulled: %s\nDigest: %s\nLayers: %d\n", img.Ref, img.Digest, img.Layers)
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the digest of the image's configuration only")
	return cmd
}
