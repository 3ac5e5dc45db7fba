package main

import (
	"fmt"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// infoView is the output of info. Its JSON names are those of BoxLite.
type infoView struct {
	Version         string `json:"version"`
	Home            string `json:"homeDir"`
	Virtualization  string `json:"virtualization"` // the engine
	OS              string `json:"os"`
	Arch            string `json:"arch"`
	BoxesTotal      int    `json:"boxesTotal"`
	BoxesRunning    int    `json:"boxesRunning"`
	BoxesStopped    int    `json:"boxesStopped"`
	BoxesConfigured int    `json:"boxesConfigured"`
	BoxesFailed     int    `json:"boxesFailed"`
	Images          int    `json:"imagesCount"`
}

func (a *app) infoCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "info [OPTIONS]",
		Short:             "Describe this home of boxes and images",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			i, err := rt.Info(cmd.Context())
			if err != nil {
				return err
			}
			v := infoView{
				Version: i.Version, Home: i.Home, Virtualization: i.Engine, OS: i.OS, Arch: i.Arch,
				BoxesStopped: i.Boxes[boxlite.StateStopped], BoxesConfigured: i.Boxes[boxlite.StateConfigured],
				BoxesFailed: i.Boxes[boxlite.StateFailed], Images: i.Images,
			}
			for state, n := range i.Boxes {
				v.BoxesTotal += n
				if active(state) {
					v.BoxesRunning += n
				}
			}
			return printOne(a.stdout, out.format, v, infoRows)
		}),
	}
	out.register(cmd, "table")
	return cmd
}

func infoRows(t *table, v infoView) {
	t.row("version:", v.Version)
	t.row("home:", v.Home)
	t.row("engine:", v.Virtualization)
	t.row("platform:", v.OS+"/"+v.Arch)
	t.row("boxes:", fmt.Sprintf("%d (%d running, %d stopped, %d configured, %d failed)",
		v.BoxesTotal, v.BoxesRunning, v.BoxesStopped, v.BoxesConfigured, v.BoxesFailed))
	t.row("images:", fmt.Sprint(v.Images))
}
