package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) logsCommand() *cobra.Command {
	var o boxlite.LogOptions
	cmd := &cobra.Command{
		Use:               "logs [OPTIONS] BOX",
		Short:             "Show what the main command of a box wrote",
		Args:              exactly(1, "BOX"),
		ValidArgsFunction: a.completeOneBox,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.logs(cmd.Context(), rt, args[0], o)
		}),
	}
	cmd.Flags().IntVarP(&o.Tail, "tail", "n", 0, "only the last `N` lines; 0: all")
	cmd.Flags().BoolVarP(&o.Follow, "follow", "f", false, "go on until the box ends")
	return cmd
}

func (a *app) logs(ctx context.Context, rt *boxlite.Runtime, key string, o boxlite.LogOptions) error {
	if o.Tail < 0 {
		return usagef("--tail %d: give a number of lines, or 0 for all", o.Tail)
	}
	box, err := a.box(ctx, rt, key)
	if err != nil {
		return err
	}
	r, err := box.Logs(ctx, o)
	if err != nil {
		return err
	}
	n, err := io.Copy(a.stdout, r)
	if n == 0 && err == nil {
		fmt.Fprintf(a.stderr, "box %q has no output of a main command; commands of exec write to their caller\n", key)
	}
	return errors.Join(err, r.Close())
}
