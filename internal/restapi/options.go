package restapi

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// maxTerm bounds auto_stop and auto_delete, in seconds: a year.
const maxTerm = 365 * 24 * 3600

// options turns a request into what the Go API takes.
func (s *Server) options(ctx context.Context, req *rest.CreateBox) (boxlite.BoxOptions, error) {
	o := boxlite.BoxOptions{
		Name: req.Name, Image: req.Image, CPUs: req.CPUs, MemoryMiB: req.MemoryMiB, DiskSizeGB: req.DiskSizeGB,
		WorkingDir: req.WorkingDir, Env: req.Env, Entrypoint: req.Entrypoint, Cmd: req.Cmd, User: req.User,
		TTY: req.TTY, Detach: req.Detach, AutoRemove: req.AutoRemove, Hostname: req.Hostname,
		Labels: maps.Clone(req.Labels),
	}
	if req.RootfsPath != "" {
		var err error
		if o.Rootfs, err = s.hostPath(ctx, "rootfs_path", req.RootfsPath); err != nil {
			return o, err
		}
	}
	if v := req.SaveInterval; !(v >= -maxTerm && v <= maxTerm) {
		return o, httpapi.InvalidArgument.Errorf("save_interval %v: give seconds, or a negative number for never", v)
	}
	o.SaveInterval = time.Duration(req.SaveInterval * float64(time.Second))
	if err := lifetimes(ctx, &o, req); err != nil {
		return o, err
	}
	security := req.Security
	var err error
	if a := req.Advanced; a != nil {
		if c := a.Capabilities; c != nil {
			o.Capabilities = boxlite.Capabilities(*c)
		}
		if o.HealthCheck, err = healthCheck(a.HealthCheck); err != nil {
			return o, err
		}
		if a.Security != nil && security != nil {
			return o, httpapi.InvalidArgument.Errorf("security and advanced.security: give one")
		}
		if security == nil {
			security = a.Security
		}
	}
	if o.Security, err = s.security(ctx, security); err != nil {
		return o, err
	}
	if o.Volumes, err = s.volumes(ctx, req.Volumes); err != nil {
		return o, err
	}
	return o, networkOptions(req, &o)
}

// lifetimes keeps the terms of a box in its labels, and whether it was made by
// the user of the server.
func lifetimes(ctx context.Context, o *boxlite.BoxOptions, req *rest.CreateBox) error {
	for k := range req.Labels {
		if strings.HasPrefix(k, labelPrefix) {
			return httpapi.InvalidArgument.Errorf("labels: %q begins with %s, which is the server's own", k, labelPrefix)
		}
	}
	for _, t := range []struct {
		field, label string
		value        int
	}{{"auto_stop", labelAutoStop, req.AutoStop}, {"auto_delete", labelAutoDelete, req.AutoDelete}} {
		if t.value < 0 || t.value > maxTerm {
			return httpapi.InvalidArgument.Errorf("%s %d: give 0 to %d seconds", t.field, t.value, maxTerm)
		}
		if t.value > 0 {
			label(o, t.label, strconv.Itoa(t.value))
		}
	}
	if !httpapi.Local(ctx) {
		label(o, labelOverNet, "true")
	}
	if req.AutoResume != nil && !*req.AutoResume {
		label(o, labelNoResume, "true")
	}
	return nil
}

func label(o *boxlite.BoxOptions, key, value string) {
	if o.Labels == nil {
		o.Labels = map[string]string{}
	}
	o.Labels[key] = value
}

// hostPath checks a path of the host that a client names, and returns it with
// symbolic links resolved: what was checked is what is used.
func (s *Server) hostPath(ctx context.Context, field, path string) (string, error) {
	if httpapi.Local(ctx) {
		return path, nil
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return "", httpapi.InvalidArgument.Errorf("%s %q: give a clean absolute path", field, path)
	}
	if target, ok := s.shared(path); ok {
		return target, nil
	}
	// That a path is not there is none of the client's business elsewhere.
	return "", httpapi.Forbidden.Errorf("%s %q: not in a directory that the server was told to share (--allow-host-dir)", field, path)
}

// shared tells whether a path leads into a directory that may be shared, and
// where to.
func (s *Server) shared(path string) (target string, ok bool) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", false
	}
	return target, slices.ContainsFunc(s.cfg.Host.Dirs, func(dir string) bool {
		dir, err := filepath.EvalSymlinks(dir)
		return err == nil && within(target, dir)
	})
}

// mayStart looks again at what a box that was made over the network has of the
// host: the server may have been told otherwise since, and a box that has a
// shared directory for writing can put a symbolic link in the place of what was
// checked when another was made.
func (s *Server) mayStart(ctx context.Context, b *boxlite.Box) error {
	info, err := b.Info(ctx)
	if err != nil {
		return err
	}
	o := info.Options
	if o.Labels[labelOverNet] == "" {
		return nil
	}
	if o.Security.ReducedIsolation && !s.cfg.Host.ReducedIsolation {
		return httpapi.Forbidden.Errorf("box %q: has reduced isolation, and the server was not started with --allow-reduced-isolation", b.ID())
	}
	paths := []string{o.Rootfs}
	for _, v := range o.Volumes {
		paths = append(paths, v.Host)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		if target, ok := s.shared(path); !ok || target != path {
			return httpapi.Forbidden.Errorf("box %q: %q is not, or no longer, in a directory that the server was told to share (--allow-host-dir), or has become a symbolic link", b.ID(), path)
		}
	}
	return nil
}

// within tells whether a path is a directory or below it. Both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// security puts together a preset and what replaces its limits.
func (s *Server) security(ctx context.Context, req *rest.Security) (boxlite.SecurityOptions, error) {
	if req == nil {
		return boxlite.StandardSecurity(), nil
	}
	var o boxlite.SecurityOptions
	switch req.Preset {
	case "", "standard":
		o = boxlite.StandardSecurity()
	case "development":
		o = boxlite.DevelopmentSecurity()
	case "maximum":
		o = boxlite.MaximumSecurity()
	default:
		return o, httpapi.InvalidArgument.Errorf("security.preset %q: there are development, standard and maximum", req.Preset)
	}
	replace(&o.MaxOpenFiles, req.MaxOpenFiles)
	replace(&o.MaxFileSize, req.MaxFileSize)
	replace(&o.MaxProcesses, req.MaxProcesses)
	replace(&o.MaxMemory, req.MaxMemory)
	if req.MaxCPUTime != nil {
		if *req.MaxCPUTime < 0 || *req.MaxCPUTime > maxTerm {
			return o, httpapi.InvalidArgument.Errorf("security.max_cpu_time %d: give 0 to %d seconds", *req.MaxCPUTime, maxTerm)
		}
		o.MaxCPUTime = time.Duration(*req.MaxCPUTime) * time.Second
	}
	replace(&o.ReducedIsolation, req.ReducedIsolation)
	if req.NetworkEnabled != nil {
		o.NetworkDisabled = !*req.NetworkEnabled
	}
	if o.ReducedIsolation && !s.cfg.Host.ReducedIsolation && !httpapi.Local(ctx) {
		return o, httpapi.Forbidden.Errorf("security.reduced_isolation: the server was not started with --allow-reduced-isolation")
	}
	return o, nil
}

func replace[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}
