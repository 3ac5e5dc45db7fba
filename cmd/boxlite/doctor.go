package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// engineTimeout is how long an engine may take to prove itself. A cold start
// takes a tenth of a second.
const engineTimeout = 30 * time.Second

// lowSpace is how much of a disk should be free: room for one large image.
const lowSpace = 2 << 30

// checkView is one finding of doctor.
type checkView struct {
	Name   string `json:"name"`
	Status string `json:"status"` // "ok", "warning" or "failed"
	Detail string `json:"detail"` // what was found, and how to mend it
	TookMS int64  `json:"took_ms,omitempty"`
}

func (a *app) doctorCommand() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "doctor [OPTIONS]",
		Short: "Say what this machine can run, and what it lacks",
		Long: `Say what this machine can run, and what it lacks, by booting a box. The exit
code is 1 if no box can be run.`,
		Args:              exactly(0, ""),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, able := a.examine(cmd.Context())
			if err := printList(a.stdout, out.format, checks, checkRow); err != nil {
				return err
			}
			if !able {
				return fmt.Errorf("no box can be run here; see above for what to do")
			}
			return nil
		},
	}
	out.register(cmd, "table")
	return cmd
}

func checkRow(t *table, v checkView) {
	detail := v.Detail
	if v.TookMS > 0 {
		detail += fmt.Sprintf(" (%d ms)", v.TookMS)
	}
	t.row(v.Name, v.Status, detail)
}

// examine looks at everything and tells whether boxes can be run.
func (a *app) examine(ctx context.Context) (checks []checkView, able bool) {
	host := checkView{Name: "host", Status: "ok", Detail: hostDetail()}
	checks = append(checks, host)
	rt, err := a.openHome(ctx)
	if err != nil {
		return append(checks, checkView{Name: "home", Status: "failed", Detail: err.Error()}), false
	}
	defer rt.Close()
	info, err := rt.Info(ctx)
	if err != nil {
		return append(checks, checkView{Name: "home", Status: "failed", Detail: err.Error()}), false
	}
	checks = append(checks, checkHome(info), checkSpace(info.Home))
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	for _, e := range rt.Engines(ctx) {
		c := checkView{Name: "engine " + e.Name, Status: "ok", Detail: "boots a box and runs a command in it", TookMS: e.Took.Milliseconds()}
		if e.Err != nil {
			c.Status, c.Detail = "failed", e.Err.Error()
		} else {
			able = true
		}
		checks = append(checks, c)
	}
	return checks, able
}

func hostDetail() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	who := "user"
	if os.Geteuid() == 0 {
		who = "root"
	}
	return fmt.Sprintf("linux/%s, kernel %s, %d processors, as %s (uid %d)",
		runtime.GOARCH, unix.ByteSliceToString(u.Release[:]), runtime.NumCPU(), who, os.Geteuid())
}

func checkHome(info boxlite.Info) checkView {
	n := 0
	for _, v := range info.Boxes {
		n += v
	}
	c := checkView{Name: "home", Status: "ok", Detail: fmt.Sprintf("%s is writable; %d boxes, %d images", info.Home, n, info.Images)}
	f, err := os.CreateTemp(info.Home, ".doctor-*")
	if err != nil {
		c.Status, c.Detail = "failed", err.Error()
		return c
	}
	f.Close()
	os.Remove(f.Name())
	return c
}

func checkSpace(home string) checkView {
	c := checkView{Name: "disk", Status: "ok"}
	var st unix.Statfs_t
	if err := unix.Statfs(home, &st); err != nil {
		c.Status, c.Detail = "warning", err.Error()
		return c
	}
	free := int64(st.Bavail) * st.Bsize
	c.Detail = fmt.Sprintf("%s free for images and boxes", humanSize(free))
	if free < lowSpace {
		c.Status = "warning"
		c.Detail += `; "boxlite prune --all" removes images that no box needs, or give --home on a larger disk`
	}
	return c
}
