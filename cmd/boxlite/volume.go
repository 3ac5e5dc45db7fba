package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// volumeView is a named volume in the output of the volume commands.
type volumeView struct {
	Name      string
	Path      string // of its directory on the host
	CreatedAt time.Time
	Size      int64
	Boxes     []string // that have it, running or not
}

func viewOfVolume(i boxlite.VolumeInfo) volumeView {
	v := volumeView{Name: i.Name, Path: i.Path, CreatedAt: i.Created, Size: i.Size, Boxes: i.Boxes}
	if v.Boxes == nil {
		v.Boxes = []string{}
	}
	return v
}

func (a *app) volumeCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "volume COMMAND",
		Short: "Manage named volumes",
		Long: `Manage named volumes: directories that outlast boxes. Give one to a box by
its name, "-v NAME:/path/in/box"; several boxes may have the same one and write
to it at once.`,
	}, a.volumeCreateCommand(), a.volumeListCommand(), a.volumeInspectCommand(), a.volumeRemoveCommand(), a.volumePruneCommand())
}

func (a *app) volumeCreateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "create [NAME]",
		Short: "Create an empty volume and print its name",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("want one NAME, or none to have one made up")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			v, err := rt.Volumes().Create(cmd.Context(), strings.Join(args, ""))
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, v.Name)
			return nil
		}),
	}
}

func (a *app) volumeListCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "ls [OPTIONS]",
		Aliases:           []string{"list"},
		Short:             "List volumes",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			list, err := rt.Volumes().List(cmd.Context())
			if err != nil {
				return err
			}
			var views []volumeView
			for _, v := range list {
				if out.quiet {
					fmt.Fprintln(a.stdout, v.Name)
				}
				views = append(views, viewOfVolume(v))
			}
			if out.quiet {
				return nil
			}
			return printList(a.stdout, out.format, views, volumeRow, "NAME", "CREATED", "SIZE", "BOXES")
		}),
	}
	out.registerList(cmd)
	return cmd
}

func volumeRow(t *table, v volumeView) {
	t.row(v.Name, ago(v.CreatedAt), humanSize(v.Size), orDash(strings.Join(v.Boxes, ",")))
}

func (a *app) volumeInspectCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "inspect [OPTIONS] NAME...",
		Short:             "Show all that is known of volumes",
		Args:              atLeast(1, "NAME..."),
		ValidArgsFunction: a.completeVolumes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			var views []volumeView
			failed := a.each(cmd, args, func(name string) error {
				v, err := rt.Volumes().Inspect(cmd.Context(), name)
				if err == nil {
					views = append(views, viewOfVolume(v))
				}
				return err
			})
			return errors.Join(printList(a.stdout, out.format, views, volumeRow, "NAME", "CREATED", "SIZE", "BOXES"), failed)
		}),
	}
	out.register(cmd, "json")
	return cmd
}

func (a *app) volumeRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rm NAME...",
		Short:             "Remove volumes and all that is in them",
		Long:              "Remove volumes and all that is in them. One that a box has stays until the box\nis removed.",
		Args:              atLeast(1, "NAME..."),
		ValidArgsFunction: a.completeVolumes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			return a.each(cmd, args, func(name string) error {
				if err := rt.Volumes().Remove(cmd.Context(), name); err != nil {
					return err
				}
				fmt.Fprintln(a.stdout, name)
				return nil
			})
		}),
	}
}

func (a *app) volumePruneCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "prune [OPTIONS]",
		Short:             "Remove the volumes that no box has",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			if err := a.confirm(force, "remove all volumes that no box has, with all that is in them"); err != nil {
				return err
			}
			removed, err := rt.Volumes().Prune(cmd.Context())
			var freed int64
			for _, v := range removed {
				fmt.Fprintln(a.stdout, "Removed:", v.Name)
				freed += v.Size
			}
			if err != nil {
				return err
			}
			fmt.Fprintln(a.stdout, "Freed:", humanSize(freed))
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "ask nothing")
	return cmd
}

func (a *app) completeVolumes(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.complete(cmd, func(ctx context.Context, rt *boxlite.Runtime) (names []string) {
		list, _ := rt.Volumes().List(ctx)
		for _, v := range list {
			names = append(names, v.Name)
		}
		return names
	})
	return without(names, args), directive
}

// volumes reads the values of --volume.
func volumes(list []string) (vs []boxlite.Volume, err error) {
	for _, s := range list {
		v, err := boxlite.ParseVolume(s)
		if err != nil {
			return nil, usagef("--volume: %w", err)
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// mountView is a volume of a box in the output of inspect.
type mountView struct {
	Type        string // "bind" or "volume"
	Name        string // of a volume
	Source      string // on the host: as found at the last start, else as given
	Destination string // in the box
	RW          bool
}

func mountsOf(i boxlite.BoxInfo) []mountView {
	list := i.Mounts
	if len(list) == 0 {
		list = i.Options.Volumes
	}
	views := []mountView{}
	for _, v := range list {
		m := mountView{Type: "bind", Name: v.Name, Source: v.Host, Destination: v.Guest, RW: !v.ReadOnly}
		if v.Name != "" {
			m.Type = "volume"
		}
		views = append(views, m)
	}
	return views
}
