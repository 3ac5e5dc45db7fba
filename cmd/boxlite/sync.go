package main

import (
	"context"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) syncCommand() *cobra.Command {
	return a.boxesCommand(&cobra.Command{
		Use:   "sync BOX...",
		Short: "Save the files of running boxes now",
		Long: `Save what running boxes have written, as a stop does. When the command ends
without an error it outlasts any crash. While a box runs it is saved by itself
every few seconds; see --save-interval of create.`,
	}, func(ctx context.Context, box *boxlite.Box, _ string) error { return box.Sync(ctx) })
}
