package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/spf13/cobra"
)

// Bounds of a box's resources, here only so that an explicit 0 can be refused:
// the library takes it for the default.
const (
	maxCPUs      = 255
	minMemoryMiB = 64
	maxMemoryMiB = 1 << 20
	maxDiskGB    = 1 << 10
)

// boxFlags say what box to create; run and create share them.
type boxFlags struct {
	name       string
	entrypoint string
	rootfs     string
	hostname   string
	cpus       int
	memory     int
	disk       int
	save       time.Duration
	pull       string
	volumes    []string
	capAdd     []string
	capDrop    []string
	health     healthFlags
	network    networkFlags
	security   securityFlags
	process    processFlags
}

func (f *boxFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.SetInterspersed(false) // what follows IMAGE belongs to the command
	fs.StringVar(&f.name, "name", "", "`NAME` of the box, unique")
	fs.StringVar(&f.entrypoint, "entrypoint", "", "replace the image's entrypoint: a `PROGRAM`, or a JSON array")
	fs.StringVar(&f.rootfs, "rootfs", "", "use a root file system at a `PATH` of the host instead of IMAGE: a directory, an OCI layout or an image archive")
	fs.StringVar(&f.hostname, "hostname", "", "host `NAME` in the box (default its id)")
	fs.Var(number(&f.cpus, "N", 1, maxCPUs, parseInt), "cpus", "processors (default 1)")
	fs.VarP(number(&f.memory, "MIB", minMemoryMiB, maxMemoryMiB, parseMiB), "memory", "m", "memory in MiB, or as in 512m, 2g (default 512)")
	fs.Var(number(&f.disk, "GB", 1, maxDiskGB, parseGB), "disk-size", "most the box may write, in GB (default 10)")
	fs.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount a path of the host, or a volume by its name, as `HOST:PATH[:ro|rw]`; repeat")
	fs.Var(interval(&f.save), "save-interval", "time between saves of what a running box has written, or off (default 10s)")
	fs.StringVar(&f.pull, "pull", "missing", "`WHEN` to pull the image: always, missing or never")
	_ = cmd.RegisterFlagCompletionFunc("pull", cobra.FixedCompletions([]string{"always", "missing", "never"}, cobra.ShellCompDirectiveNoFileComp))
	f.health.register(cmd)
	f.network.register(cmd)
	f.security.register(cmd)
	fs.BoolVar(&f.security.reduced, "reduced-isolation", false, "allow a weaker boundary on a host without user namespaces")
	fs.StringArrayVar(&f.capDrop, "cap-drop", nil, "`CAPABILITY` that root in the box lacks, or ALL; repeat")
	fs.StringArrayVar(&f.capAdd, "cap-add", nil, "`CAPABILITY` to keep with --cap-drop ALL; repeat")
	f.process.register(cmd)
}

// options puts the flags and arguments into the options of a box. The rest of
// args is IMAGE and CMD, without IMAGE when --rootfs is given. On a server, away,
// paths are those of its host.
func (f *boxFlags) options(cmd *cobra.Command, args []string, away bool) (boxlite.BoxOptions, error) {
	o := boxlite.BoxOptions{
		Name: f.name, Rootfs: f.rootfs, Hostname: f.hostname, CPUs: f.cpus, MemoryMiB: f.memory,
		DiskSizeGB: f.disk, SaveInterval: f.save, HealthCheck: f.health.options(cmd), WorkingDir: f.process.dir, User: f.process.user, TTY: f.process.tty,
	}
	var err error
	switch {
	case f.rootfs != "" && away:
		o.Rootfs = f.rootfs
		err = absolute("--rootfs", f.rootfs)
	case f.rootfs != "":
		// The box may first be started from elsewhere.
		if o.Rootfs, err = filepath.Abs(f.rootfs); err != nil {
			return o, err
		}
		if _, err := os.Stat(o.Rootfs); err != nil {
			return o, fmt.Errorf("--rootfs: %w", err)
		}
	case len(args) == 0:
		return o, usagef("want IMAGE [CMD...], got nothing")
	default:
		o.Image, args = args[0], args[1:]
	}
	for _, v := range f.volumes {
		if away && strings.HasPrefix(v, ".") {
			err = absolute("--volume", v)
		}
	}
	if err != nil {
		return o, err
	}
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	o.Cmd = args
	o.Env = f.process.environment()
	if o.Volumes, err = volumes(f.volumes); err != nil {
		return o, err
	}
	if o.Entrypoint, err = words(f.entrypoint); err != nil {
		return o, usagef("--entrypoint: %w", err)
	}
	if err := f.network.options(&o); err != nil {
		return o, err
	}
	sec, err := f.security.options(cmd, boxlite.StandardSecurity())
	if err != nil {
		return o, err
	}
	sec.ReducedIsolation = f.security.reduced
	o.Security = sec
	o.Capabilities = boxlite.Capabilities{Add: f.capAdd, Drop: f.capDrop}
	return o, nil
}

// absolute refuses a path of a server's host that is told from here.
func absolute(flag, path string) error {
	if filepath.IsAbs(path) {
		return nil
	}
	return usagef("%s %q: give an absolute path of the server's host", flag, path)
}

// words reads a command: a JSON array, or one word.
func words(s string) (list []string, err error) {
	switch {
	case s == "":
		return nil, nil
	case !strings.HasPrefix(s, "["):
		return []string{s}, nil
	}
	if err := json.Unmarshal([]byte(s), &list); err != nil {
		return nil, fmt.Errorf("%q is not a JSON array of strings: %w", s, err)
	}
	return list, nil
}

// image gets the image of a box to be created, by the rule of --pull.
func (a *app) image(ctx context.Context, rt *boxlite.Runtime, ref, pull string) (boxlite.Image, error) {
	switch pull {
	case "always":
		return a.pull(ctx, ref, rt.Images().Pull)
	case "missing":
		return a.pull(ctx, ref, rt.Images().Ensure)
	case "never":
		return rt.Images().Get(ctx, ref)
	}
	return boxlite.Image{}, usagef("--pull %q: want always, missing or never", pull)
}

// processFlags say how a command runs in a box.
type processFlags struct {
	tty  bool
	env  []string
	dir  string
	user string
}

func (f *processFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.BoolVarP(&f.tty, "tty", "t", false, "run it on a terminal")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "set a variable, `KEY[=VALUE]`; without a value take it from here; repeat")
	fs.StringVarP(&f.dir, "workdir", "w", "", "`DIR` in the box, made if missing")
	fs.StringVarP(&f.user, "user", "u", "", "user in the box, `NAME|UID[:GROUP|GID]`")
}

// environment fills in the values that are to be taken from here. A variable
// that is not set here is left out, as docker does.
func (f *processFlags) environment() []string {
	var env []string
	for _, kv := range f.env {
		if !strings.Contains(kv, "=") {
			v, ok := os.LookupEnv(kv)
			if !ok {
				continue
			}
			kv += "=" + v
		}
		env = append(env, kv)
	}
	return env
}

// securityFlags bound what runs in a box.
type securityFlags struct {
	preset    string
	files     int
	processes int
	fileSize  int64
	memory    int64
	cpuTime   time.Duration
	reduced   bool
}

func (f *securityFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.preset, "security", "", "limits per command, a `PRESET`: development, standard or maximum ($BOXLITE_SECURITY; default standard)")
	_ = cmd.RegisterFlagCompletionFunc("security", cobra.FixedCompletions([]string{"development", "standard", "maximum"}, cobra.ShellCompDirectiveNoFileComp))
	fs.Var(number(&f.files, "N", 1, 1<<30, parseInt), "max-open-files", "open files of a process")
	fs.Var(number(&f.processes, "N", 1, 1<<22, parseInt), "max-processes", "processes and threads of a command")
	fs.Var(bytesValue(&f.fileSize), "max-file-size", "size of a file")
	fs.Var(bytesValue(&f.memory), "max-memory", "address space of a process")
	fs.Var(seconds(&f.cpuTime), "max-cpu-time", "processor time of a process")
}

// changed tells whether any of the flags was given.
func (f *securityFlags) changed(cmd *cobra.Command) bool {
	for _, name := range []string{"security", "max-open-files", "max-processes", "max-file-size", "max-memory", "max-cpu-time"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// options changes base as the flags say. The environment's preset counts only
// where nothing else was said.
func (f *securityFlags) options(cmd *cobra.Command, base boxlite.SecurityOptions) (boxlite.SecurityOptions, error) {
	switch preset := or(f.preset, "BOXLITE_SECURITY"); preset {
	case "":
	case "development":
		base = boxlite.DevelopmentSecurity()
	case "standard":
		base = boxlite.StandardSecurity()
	case "maximum":
		base = boxlite.MaximumSecurity()
	default:
		return base, usagef("--security %q: want development, standard or maximum", preset)
	}
	set := func(name string, f func()) {
		if cmd.Flags().Changed(name) {
			f()
		}
	}
	set("max-open-files", func() { base.MaxOpenFiles = f.files })
	set("max-processes", func() { base.MaxProcesses = f.processes })
	set("max-file-size", func() { base.MaxFileSize = f.fileSize })
	set("max-memory", func() { base.MaxMemory = f.memory })
	set("max-cpu-time", func() { base.MaxCPUTime = f.cpuTime })
	return base, nil
}
