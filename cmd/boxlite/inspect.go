package main

import (
	"context"
	"errors"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/spf13/cobra"
)

// inspectView is a box in the output of inspect. Its names are those scripts
// for containers know.
type inspectView struct {
	ID         string `json:"Id"`
	Name       string
	Created    time.Time
	State      stateView
	Image      string
	ImageID    string `json:"ImageId"`
	Engine     string // that runs it or ran it last
	Isolation  string // "full" or "reduced"; empty until started
	Config     configView
	Resources  resourcesView
	Security   securityView
	Mounts     []mountView
	Network    networkView
	AutoRemove bool
	Detach     bool
	DiskBytes  int64
	SavedAt    *time.Time      // all that was written before is saved
	Unsaved    bool            // something has run since
	SaveError  string          // why the last save failed
	Executions []executionView // of a running box that answers
}

type stateView struct {
	Status     string
	Running    bool
	Pid        int
	ExitCode   *int
	OOMKilled  bool
	Error      string // why it failed
	StartedAt  *time.Time
	FinishedAt *time.Time
	Health     healthView
}

type configView struct {
	Hostname   string
	User       string
	Env        []string
	Entrypoint []string
	Cmd        []string
	WorkingDir string
	Tty        bool

	Healthcheck *healthcheckView // nil: it is not asked
}

type resourcesView struct {
	CPUs       int
	MemoryMiB  int
	DiskSizeGB int

	SaveInterval string // as in "10s"; empty: it is saved when it stops, and by sync
}

type securityView struct {
	MaxOpenFiles     int
	MaxFileSize      int64
	MaxProcesses     int
	MaxMemory        int64
	MaxCPUTime       string // as in "30s"; empty: no limit
	ReducedIsolation bool
	CapAdd           []string
	CapDrop          []string
}

type networkView struct {
	Mode      string // enabled, allowlist or disabled
	Allow     []string
	Deny      []string
	Ports     []portView // of a running box with those that were chosen, else as it was created
	Secrets   []secretView
	Refusals  []refusalView // the last few
	Published bool          // the ports are served now
}

type portView struct {
	HostIP   string `json:"HostIp"`
	HostPort uint16
	BoxPort  uint16
	Proto    string
}

type secretView struct {
	Name        string
	Hosts       []string
	Placeholder string
}

type refusalView struct {
	Time   time.Time
	Kind   string
	Proto  string
	Name   string
	Addr   string
	Rule   string
	Reason string
}

type executionView struct {
	ID        string `json:"Id"`
	Args      []string
	Pid       int
	Tty       bool
	StartedAt time.Time
	ExitCode  *int
}

func (a *app) inspectCommand() *cobra.Command {
	var (
		out    output
		latest bool
	)
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] BOX...",
		Short: "Show all that is known of boxes",
		Example: `  boxlite inspect -f '{{.State.Status}}' work
  boxlite inspect -f '{{json .Config}}' work`,
		Args: func(_ *cobra.Command, args []string) error {
			if latest == (len(args) > 0) {
				return usagef("want BOX..., or --latest alone")
			}
			return nil
		},
		ValidArgsFunction: a.completeBoxes,
		RunE: a.with(func(cmd *cobra.Command, rt *boxlite.Runtime, args []string) error {
			if latest {
				infos, err := rt.Boxes(cmd.Context())
				if err != nil {
					return err
				}
				if len(infos) == 0 {
					return errors.New("there are no boxes")
				}
				args = []string{infos[len(infos)-1].ID}
			}
			return a.inspect(cmd, rt, out.format, args)
		}),
	}
	out.register(cmd, "json")
	cmd.Flags().BoolVarP(&latest, "latest", "l", false, "the box created last")
	return cmd
}

// inspect prints the boxes it finds, also when others are missing.
func (a *app) inspect(cmd *cobra.Command, rt *boxlite.Runtime, format string, keys []string) error {
	var views []inspectView
	failed := a.each(cmd, keys, func(key string) error {
		box, err := a.box(cmd.Context(), rt, key)
		if err != nil {
			return err
		}
		info, err := box.Info(cmd.Context())
		if err != nil {
			return err
		}
		v := viewOf(info)
		if info.State == boxlite.StateRunning {
			v.Executions = executionsOf(cmd.Context(), box)
		}
		views = append(views, v)
		return nil
	})
	return errors.Join(printList(a.stdout, format, views, inspectRow), failed)
}

// executionsWait is how long inspect waits for the agent of a box, which answers
// in milliseconds if it is well: what is known besides is shown in any case.
const executionsWait = 2 * time.Second

// executionsOf has none of a box that does not tell in time, or ends now.
func executionsOf(ctx context.Context, box *boxlite.Box) []executionView {
	ctx, cancel := context.WithTimeout(ctx, executionsWait)
	defer cancel()
	list, _ := box.Executions(ctx)
	views := []executionView{}
	for _, x := range list {
		views = append(views, executionView{x.ID, x.Args, x.PID, x.TTY, x.Started, x.ExitCode})
	}
	return views
}

func viewOf(i boxlite.BoxInfo) inspectView {
	o, sec := i.Options, i.Options.Security
	v := inspectView{
		ID: i.ID, Name: i.Name, Created: i.Created, Image: imageName(o), ImageID: i.ImageDigest,
		State: stateView{
			Status: string(i.State), Running: i.State == boxlite.StateRunning, Pid: i.PID, ExitCode: i.ExitCode,
			OOMKilled: i.OOM, Error: i.Reason, StartedAt: optional(i.Started), FinishedAt: optional(i.Finished),
			Health: healthOf(i.Health),
		},
		Engine: i.Engine, Isolation: i.Isolation,
		Config: configView{
			Hostname: o.Hostname, User: o.User, Env: o.Env, Entrypoint: o.Entrypoint, Cmd: o.Cmd,
			WorkingDir: o.WorkingDir, Tty: o.TTY, Healthcheck: healthcheckOf(o.HealthCheck),
		},
		Resources: resourcesView{CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, DiskSizeGB: o.DiskSizeGB},
		Security: securityView{
			MaxOpenFiles: sec.MaxOpenFiles, MaxFileSize: sec.MaxFileSize, MaxProcesses: sec.MaxProcesses,
			MaxMemory: sec.MaxMemory, ReducedIsolation: sec.ReducedIsolation,
			CapAdd: o.Capabilities.Add, CapDrop: o.Capabilities.Drop,
		},
		Mounts:     mountsOf(i),
		Network:    networkOf(i),
		AutoRemove: o.AutoRemove, Detach: o.Detach, DiskBytes: i.DiskBytes, SavedAt: optional(i.Saved),
		Unsaved: i.Unsaved, SaveError: i.SaveError,
		Executions: []executionView{},
	}
	if o.SaveInterval > 0 && !o.AutoRemove {
		v.Resources.SaveInterval = o.SaveInterval.String()
	}
	if sec.MaxCPUTime > 0 {
		v.Security.MaxCPUTime = sec.MaxCPUTime.String()
	}
	return v
}

func networkOf(i boxlite.BoxInfo) networkView {
	o := i.Options
	v := networkView{
		Mode: string(o.Network.Mode), Allow: ruleTexts(o.Network.Allow), Deny: ruleTexts(o.Network.Deny),
		Ports: []portView{}, Secrets: []secretView{}, Refusals: []refusalView{}, Published: len(i.Ports) > 0,
	}
	switch {
	case o.Security.NetworkDisabled:
		v.Mode = string(egress.Disabled)
	case v.Mode == "":
		v.Mode = string(egress.Enabled)
	}
	ports := i.Ports
	if len(ports) == 0 {
		ports = o.Ports
	}
	for _, p := range ports {
		v.Ports = append(v.Ports, portView(p))
	}
	for _, s := range o.Secrets {
		v.Secrets = append(v.Secrets, secretView{s.Name, s.Hosts, s.Placeholder})
	}
	for _, e := range i.Refusals {
		v.Refusals = append(v.Refusals, refusalView{e.Time, string(e.Kind), string(e.Proto), e.Name, e.Addr, e.Rule, string(e.Reason)})
	}
	return v
}

func ruleTexts(rules []egress.Rule) []string {
	texts := []string{}
	for _, r := range rules {
		texts = append(texts, r.String())
	}
	return texts
}

func inspectRow(t *table, v inspectView) {
	t.row("id", v.ID)
	t.row("name", orDash(v.Name))
	t.row("image", v.Image)
	t.row("status", v.State.Status)
	if v.State.Error != "" {
		t.row("reason", v.State.Error)
	}
	if v.Config.Healthcheck != nil {
		t.row("health", v.State.Health.String())
	}
	t.row("engine", orDash(v.Engine))
	t.row("isolation", orDash(v.Isolation))
	t.row("network", v.Network.Mode)
	for _, p := range v.Network.Ports {
		t.row("port", boxlite.Port(p).String())
	}
	t.row("created", v.Created.Format(time.RFC3339))
	if v.SavedAt != nil {
		t.row("saved", v.SavedAt.Format(time.RFC3339))
	}
	if v.SaveError != "" {
		t.row("save error", v.SaveError)
	}
}
