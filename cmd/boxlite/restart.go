package main

import (
	"context"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) restartCommand() *cobra.Command {
	var secrets secretFlag
	cmd := a.boxesCommand(&cobra.Command{
		Use:   "restart [OPTIONS] BOX...",
		Short: "Stop boxes and start them again",
	}, func(ctx context.Context, box *boxlite.Box, key string) error {
		if err := mayStart(ctx, box, key); err != nil {
			return err
		}
		if err := secrets.set(box); err != nil {
			return err
		}
		if err := box.Stop(ctx); err != nil {
			return err
		}
		return box.Start(ctx)
	})
	secrets.register(cmd)
	return cmd
}
