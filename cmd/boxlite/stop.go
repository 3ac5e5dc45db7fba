package main

import (
	"context"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) stopCommand() *cobra.Command {
	return a.boxesCommand(&cobra.Command{
		Use:   "stop BOX...",
		Short: "Stop boxes",
		Long: `Stop boxes: their commands get SIGTERM, and SIGKILL after ten seconds, and the
files are saved. A box that does not run is left as it is.`,
	}, func(ctx context.Context, box *boxlite.Box, _ string) error { return box.Stop(ctx) })
}
