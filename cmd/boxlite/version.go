package main

import (
	"runtime"
	"runtime/debug"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// versionView is the output of version.
type versionView struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	GVisor   string `json:"gvisor,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:               "version [OPTIONS]",
		Short:             "Print the version",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			v := versionView{Version: boxlite.Version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if bi, ok := debug.ReadBuildInfo(); ok {
				for _, m := range bi.Deps {
					if m.Path == "gvisor.dev/gvisor" {
						v.GVisor = m.Version
					}
				}
			}
			return printOne(a.stdout, out.format, v, func(t *table, v versionView) {
				t.row("boxlite:", v.Version)
				t.row("go:", v.Go)
				t.row("platform:", v.Platform)
				t.row("gvisor:", orDash(v.GVisor))
			})
		},
	}
	out.register(cmd, "table")
	return cmd
}
