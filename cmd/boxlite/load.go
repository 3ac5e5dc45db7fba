package main

import (
	"context"
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) loadCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "load [PATH]",
		Short: "Load images from an archive",
		Long: `Load images from an archive as docker save writes it, or from an OCI layout, a
directory or an archive. Without a path it is read from standard input.`,
		Args: between(0, 1, "at most one path"),
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			switch {
			case len(args) > 0 && cmd.Flags().Changed("input"):
				return usagef("both %q and --input: give one", args[0])
			case len(args) > 0:
				path = args[0]
			}
			images, err := a.load(cmd.Context(), rt, path)
			if err != nil {
				return err
			}
			for _, img := range images {
				name := img.Ref
				if name == "" {
					name = img.Digest
				}
				fmt.Fprintln(a.stdout, "Loaded:", name)
			}
			return nil
		}),
	}
	cmd.Flags().StringVarP(&path, "input", "i", "-", "`PATH` of the archive or directory")
	return cmd
}

func (a *app) load(ctx context.Context, rt *boxlite.Runtime, path string) ([]boxlite.Image, error) {
	if path != "-" {
		return rt.Images().Load(ctx, path)
	}
	r, err := a.input(path)
	if err != nil {
		return nil, err
	}
	return rt.Images().LoadFrom(ctx, r)
}
