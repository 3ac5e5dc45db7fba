package boxlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
)

func (r *remote) Create(ctx context.Context, o BoxOptions) (*Box, error) {
	if err := r.open(); err != nil {
		return nil, &Error{"create", o.Name, err}
	}
	o, err := o.withDefaults()
	if err == nil {
		err = checkImage(o)
	}
	if err != nil {
		return nil, &Error{"create", o.Name, err}
	}
	var reply rest.Box
	if err := r.post(ctx, createRequest(o), &reply, "boxes"); err != nil {
		return nil, remoteErr("create", o.Name, err)
	}
	return r.handle(reply), nil
}

// handle is that of a box that the server has told about.
func (r *remote) handle(b rest.Box) *Box {
	on := &remoteBox{rt: r, id: b.BoxID, detach: b.Detach}
	if b.Name != nil {
		on.name = *b.Name
	}
	return &Box{on.id, on.name, r.log, on}
}

// createRequest is what a server takes for o.
func createRequest(o BoxOptions) rest.CreateBox {
	req := rest.CreateBox{
		Name: o.Name, Image: o.Image, RootfsPath: o.Rootfs, CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, DiskSizeGB: o.DiskSizeGB,
		WorkingDir: o.WorkingDir, Env: rest.Env(mergeEnv(o.Env)), Entrypoint: o.Entrypoint, Cmd: o.Cmd, User: o.User, TTY: o.TTY,
		Detach: o.Detach, Network: networkRequest(o.Network), Hostname: o.Hostname, Labels: o.Labels,
		AutoRemove: o.AutoRemove, Security: securityRequest(o.Security), SaveInterval: o.SaveInterval.Seconds(),
		Advanced: advancedRequest(o),
	}
	for _, v := range o.Volumes {
		req.Volumes = append(req.Volumes, rest.Mount{ManagedVolume: v.Name, HostPath: v.Host, GuestPath: v.Guest, ReadOnly: v.ReadOnly})
	}
	for _, s := range o.Secrets {
		req.Secrets = append(req.Secrets, rest.Secret(s))
	}
	for _, p := range o.Ports {
		req.Ports = append(req.Ports, rest.Port{GuestPort: p.BoxPort, HostPort: p.HostPort, HostIP: p.HostIP, Protocol: p.Proto})
	}
	return req
}

func advancedRequest(o BoxOptions) *rest.Advanced {
	a := &rest.Advanced{HealthCheck: healthRequest(o.HealthCheck)}
	if c := rest.Capabilities(o.Capabilities); len(c.Add)+len(c.Drop) > 0 {
		a.Capabilities = &c
	}
	if *a == (rest.Advanced{}) {
		return nil
	}
	return a
}

func healthRequest(c *HealthCheck) *rest.HealthCheck {
	if c == nil {
		return nil
	}
	seconds := func(d time.Duration) *float64 {
		s := max(0, d).Seconds()
		return &s
	}
	return &rest.HealthCheck{
		Interval: seconds(c.Interval), Timeout: seconds(c.Timeout), StartPeriod: seconds(c.StartPeriod), Retries: &c.Retries,
	}
}

func securityRequest(s SecurityOptions) *rest.Security {
	network, cpu := !s.NetworkDisabled, int64((s.MaxCPUTime+time.Second-1)/time.Second)
	return &rest.Security{
		Preset: "development", MaxOpenFiles: &s.MaxOpenFiles, MaxFileSize: &s.MaxFileSize, MaxProcesses: &s.MaxProcesses,
		MaxMemory: &s.MaxMemory, MaxCPUTime: &cpu, ReducedIsolation: &s.ReducedIsolation, NetworkEnabled: &network,
	}
}

func networkRequest(p egress.Policy) *rest.Network {
	d := &rest.Direction{Mode: rest.Public}
	switch p.Mode {
	case egress.Disabled:
		d.Mode = rest.Disabled
	case egress.AllowList:
		d.Mode = rest.AllowList
	case "":
		if len(p.Allow) == 0 {
			d.Mode = rest.Enabled // which with rules to allow means something else there
		}
	}
	for _, r := range p.Allow {
		d.AllowNet = append(d.AllowNet, r.String())
	}
	for _, r := range p.Deny {
		d.DenyNet = append(d.DenyNet, r.String())
	}
	return &rest.Network{Outbound: d}
}

func (r *remote) Box(ctx context.Context, key string) (*Box, error) {
	var reply rest.Box
	err := r.get(ctx, &reply, nil, "boxes", key)
	if err != nil {
		if e, ok := errors.AsType[*restclient.Error](err); ok && e.Status == http.StatusNotFound {
			err = fmt.Errorf("box %w", ErrNotFound)
		}
		return nil, remoteErr("get", key, err)
	}
	return r.handle(reply), nil
}

func (r *remote) named(ctx context.Context, name string) (*Box, error) {
	b, err := r.Box(ctx, name)
	if err == nil && b.name != name { // its id begins like that
		err = &Error{"get", name, fmt.Errorf("box %w", ErrNotFound)}
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}

// maxTries is how often a list is begun anew because the box that a page ended
// with is gone.
const maxTries = 5

func (r *remote) Boxes(ctx context.Context) ([]BoxInfo, error) {
	for try := 1; ; try++ {
		infos, err := r.allBoxes(ctx)
		if err == nil {
			return infos, nil
		}
		if err = remoteErr("list", "", err); try == maxTries || !errors.Is(err, ErrInvalid) {
			return nil, err
		}
	}
}

// maxBoxes bounds a list, whatever a server says: a hundred times what ours has.
const maxBoxes = 1 << 20

func (r *remote) allBoxes(ctx context.Context) ([]BoxInfo, error) {
	infos := []BoxInfo{}
	query := url.Values{"details": {"true"}, "pageSize": {"1000"}}
	for {
		var page rest.Boxes
		if err := r.get(ctx, &page, query, "boxes"); err != nil {
			return nil, err
		}
		for _, b := range page.Boxes {
			info, err := infoOf(b)
			if err != nil {
				return nil, err
			}
			infos = append(infos, info)
		}
		if page.NextPageToken == "" {
			return infos, nil
		}
		if len(page.Boxes) == 0 || len(infos) > maxBoxes {
			return nil, fmt.Errorf("server %s: a list of boxes without an end", r.c)
		}
		query.Set("pageToken", page.NextPageToken)
	}
}

func infoOf(b rest.Box) (info BoxInfo, err error) {
	if err := json.Unmarshal(b.Details, &info); err != nil {
		return info, fmt.Errorf("the server tells of box %s what makes no sense: %w", b.BoxID, err)
	}
	return info, nil
}

func (r *remote) Engines(ctx context.Context) []EngineStatus {
	var reply rest.Engines
	begun := time.Now()
	if err := r.get(ctx, &reply, nil, "engines"); err != nil {
		return []EngineStatus{{Err: remoteErr("engines", "", err), Took: time.Since(begun)}}
	}
	var list []EngineStatus
	for _, e := range reply.Engines {
		s := EngineStatus{Name: e.Name, Took: time.Duration(e.TookMS) * time.Millisecond}
		if e.Error != nil {
			s.Err = causeErr(e.Error)
		}
		list = append(list, s)
	}
	return list
}
