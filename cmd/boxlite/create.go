package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) createCommand() *cobra.Command {
	var f boxFlags
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] IMAGE [CMD [ARGS...]]",
		Short: "Create a box without starting it",
		Long: `Create a box without starting it, and print its id.

Without CMD nothing runs in the box but what exec starts; it starts by itself
when it is first used. With CMD or --entrypoint it is a job: start runs that
command, and the box stops when it ends. The box stays until it is removed.`,
		Example: `  boxlite create --name work python:slim
  boxlite exec work python -c 'print(6*7)'`,
		ValidArgsFunction: a.completeImage,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			o, err := f.options(cmd, args, a.away)
			if err != nil {
				return err
			}
			o.Detach = true
			if o.Rootfs == "" {
				if _, err := a.image(cmd.Context(), rt, o.Image, f.pull); err != nil {
					return err
				}
			}
			box, err := rt.Create(cmd.Context(), o)
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, box.ID())
			return nil
		}),
	}
	f.register(cmd)
	return cmd
}
