package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

func (a *app) rmCommand() *cobra.Command {
	var force, all bool
	cmd := &cobra.Command{
		Use:   "rm [OPTIONS] BOX...",
		Short: "Remove boxes and all that was written in them",
		Args: func(_ *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return usagef("want BOX..., or --all alone")
			}
			return nil
		},
		ValidArgsFunction: a.completeBoxes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			if all {
				infos, err := rt.Boxes(cmd.Context())
				if err != nil || len(infos) == 0 {
					return err
				}
				if err := a.confirm(force, fmt.Sprintf("remove all %d boxes", len(infos))); err != nil {
					return err
				}
				for _, info := range infos {
					args = append(args, info.ID)
				}
			}
			return a.each(cmd, args, func(key string) error { return a.remove(cmd.Context(), rt, key, force) })
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also boxes that run, and ask nothing")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all boxes")
	return cmd
}

func (a *app) remove(ctx context.Context, rt *boxlite.Runtime, key string, force bool) error {
	box, err := a.box(ctx, rt, key)
	if err != nil {
		return err
	}
	err = box.Remove(ctx, boxlite.RemoveOptions{Force: force})
	if errors.Is(err, boxlite.ErrState) && !force {
		return fmt.Errorf("box %q is running; stop it first, or use %q", key, "boxlite rm -f")
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(a.stdout, box.ID())
	return nil
}

// confirm asks the user. Where nobody can answer, --force is needed.
func (a *app) confirm(force bool, what string) error {
	if force {
		return nil
	}
	if !isTerminal(a.stdin) {
		return usagef("this would %s: give --force", what)
	}
	fmt.Fprintf(a.stderr, "This will %s. Go on? [y/N] ", what)
	line, _ := bufio.NewReader(a.stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return nil
	}
	return errors.New("nothing was done")
}
