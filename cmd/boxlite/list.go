package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// listView is a box in the output of list.
type listView struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Image     string     `json:"image"`
	Command   string     `json:"command"`
	Status    string     `json:"status"`
	Health    string     `json:"health"`
	Reason    string     `json:"reason,omitempty"`
	ExitCode  *int       `json:"exit_code,omitempty"`
	PID       int        `json:"pid,omitempty"`
	CPUs      int        `json:"cpus"`
	MemoryMiB int        `json:"memory_mib"`
	Engine    string     `json:"engine,omitempty"`
	Isolation string     `json:"isolation,omitempty"`
	CreatedAt time.Time  `json:"created_at"`
	StartedAt *time.Time `json:"started_at,omitempty"`
	StoppedAt *time.Time `json:"stopped_at,omitempty"`
}

func (a *app) listCommand() *cobra.Command {
	var (
		out output
		all bool
	)
	cmd := &cobra.Command{
		Use:               "list [OPTIONS]",
		Aliases:           []string{"ls", "ps"},
		Short:             "List boxes",
		Long:              "List the boxes that are active, or all with -a.",
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, _ []string) error {
			infos, err := rt.Boxes(cmd.Context())
			if err != nil {
				return err
			}
			var views []listView
			for _, info := range infos {
				if !all && !active(info.State) {
					continue
				}
				if out.quiet {
					fmt.Fprintln(a.stdout, info.ID)
				}
				views = append(views, viewOfListed(info))
			}
			if out.quiet {
				return nil
			}
			return printList(a.stdout, out.format, views, listRow, "ID", "NAME", "IMAGE", "COMMAND", "STATUS", "CREATED")
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "boxes that do not run too")
	out.registerList(cmd)
	return cmd
}

// active tells whether a process stands behind the state.
func active(s boxlite.State) bool {
	return s == boxlite.StateRunning || s == boxlite.StatePaused || s == boxlite.StateStopping
}

func viewOfListed(i boxlite.BoxInfo) listView {
	o := i.Options
	return listView{
		ID: i.ID, Name: i.Name, Image: imageName(o), Command: strings.Join(append(append([]string{}, o.Entrypoint...), o.Cmd...), " "),
		Status: string(i.State), Health: string(i.Health.State), Reason: i.Reason, ExitCode: i.ExitCode, PID: i.PID,
		CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, Engine: i.Engine, Isolation: i.Isolation,
		CreatedAt: i.Created, StartedAt: optional(i.Started), StoppedAt: optional(i.Finished),
	}
}

func imageName(o boxlite.BoxOptions) string {
	if o.Rootfs != "" {
		return o.Rootfs
	}
	return o.Image
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// commandWidth bounds the command in the table.
const commandWidth = 30

func listRow(t *table, v listView) {
	command := v.Command
	if r := []rune(command); len(r) > commandWidth {
		command = string(r[:commandWidth-3]) + "..."
	}
	t.row(v.ID, orDash(v.Name), v.Image, orDash(command), v.status(), ago(v.CreatedAt))
}

// status is the state for people.
func (v listView) status() string {
	since := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return " " + ago(*t)
	}
	switch boxlite.State(v.Status) {
	case boxlite.StateRunning:
		up := "Up"
		if v.StartedAt != nil {
			up += " " + humanDuration(time.Since(*v.StartedAt))
		}
		return up + healthNote(boxlite.HealthState(v.Health))
	case boxlite.StateStopped:
		if v.ExitCode != nil {
			return fmt.Sprintf("Exited (%d)%s", *v.ExitCode, since(v.StoppedAt))
		}
		return "Stopped" + since(v.StoppedAt)
	case boxlite.StateFailed:
		return "Failed" + since(v.StoppedAt)
	}
	return strings.ToUpper(v.Status[:1]) + v.Status[1:]
}
