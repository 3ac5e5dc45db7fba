package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) saveCommand() *cobra.Command {
	var (
		path string
		oci  bool
	)
	cmd := &cobra.Command{
		Use:               "save [OPTIONS] IMAGE...",
		Short:             "Write images to an archive",
		Long:              "Write images to an archive that load takes, and docker load too.",
		Args:              atLeast(1, "IMAGE..."),
		ValidArgsFunction: a.completeImages,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			switch {
			case path != "":
				return saveTo(cmd.Context(), rt, path, args, oci)
			case isTerminal(a.stdout):
				return usagef("an archive does not go on a terminal: use -o, > or |")
			}
			return rt.Images().Save(cmd.Context(), a.stdout, args, oci)
		}),
	}
	cmd.Flags().StringVarP(&path, "output", "o", "", "`PATH` to write to instead of standard output")
	cmd.Flags().BoolVar(&oci, "oci", false, "write an OCI layout")
	_ = cmd.MarkFlagFilename("output")
	return cmd
}

// saveTo writes a new file and puts it in the place of path when it is whole.
func saveTo(ctx context.Context, rt *boxlite.Runtime, path string, refs []string, oci bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".boxlite-save-*")
	if err != nil {
		return err
	}
	err = rt.Images().Save(ctx, f, refs, oci)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
