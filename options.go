package boxlite

import (
	"fmt"
	"time"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/pattern"
)

// Defaults and bounds of a box. They are those the guide and its users know.
const (
	defaultCPUs      = 1
	defaultMemoryMiB = 512
	defaultDiskGB    = 10
	// defaultSaveInterval is what a user who lost it would do again without
	// much ado; a save of a small box takes milliseconds.
	defaultSaveInterval = 10 * time.Second
	minSaveInterval     = time.Second / 10
	maxCPUs             = 255
	minMemoryMiB        = 64
	maxMemoryMiB        = 1 << 20
	maxDiskGB           = 1 << 10
	maxArgs             = 4096
	maxArgBytes         = 1 << 20 // all arguments and environment together
	maxLabels           = 64
	maxLabelBytes       = 16 << 10 // they travel with every listing
)

// BoxOptions says what box to create. The zero value of each field works.
// Options are read by Create and stored; later changes have no effect.
type BoxOptions struct {
	// Name by which the box can be found, unique in the runtime. Empty: none.
	// Letters, digits, '.', '_' and '-', beginning with a letter or digit, at
	// most 128.
	Name string `json:"name,omitempty"`

	// Image is a reference as docker takes it ("python:slim"). Empty means
	// "alpine:latest". It is pulled when the box is first used.
	Image string `json:"image,omitempty"`

	// Rootfs is a host path used instead of Image: an OCI layout directory, an
	// image archive, or a directory that holds a root file system.
	Rootfs string `json:"rootfs,omitempty"`

	// CPUs the box sees and may use. Zero means 1.
	CPUs int `json:"cpus,omitempty"`

	// MemoryMiB is the most the box may use. Zero means 512; the least is 64.
	// A box that needs more has a process killed, or is killed itself, and
	// the command reports [CauseOOM].
	MemoryMiB int `json:"memory_mib,omitempty"`

	// DiskSizeGB is the most the box may write, in units of 1e9 bytes. Zero
	// means 10. Writing more fails in the box: no space left on device. On the
	// host what it has written is there once while the box runs, and saved, in
	// up to twice the room.
	DiskSizeGB int `json:"disk_size_gb,omitempty"`

	// WorkingDir is where commands run, made if missing. Empty means the
	// image's.
	WorkingDir string `json:"working_dir,omitempty"`

	// Env is added to the image's environment, as KEY=value.
	Env []string `json:"env,omitempty"`

	// User that commands run as: name or uid, optionally with ":group". Empty
	// means the image's.
	User string `json:"user,omitempty"`

	// Entrypoint and Cmd replace the image's. With either of them the box is
	// a job: its main command starts with it, and the box stops when that
	// ends. With neither, nothing runs but what Command starts.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`

	// TTY runs the main command on a terminal.
	TTY bool `json:"tty,omitempty"`

	// Labels are the caller's own notes on the box. Boxlite keeps them and
	// reads none. At most 64, keys and values together 16 KiB.
	Labels map[string]string `json:"labels,omitempty"`

	// Hostname of the box. Empty means its id.
	Hostname string `json:"hostname,omitempty"`

	// Detach lets the box outlive the process that starts it. Otherwise it
	// ends with that process, however that ends.
	Detach bool `json:"detach,omitempty"`

	// AutoRemove deletes the box, with all it wrote, when it stops.
	AutoRemove bool `json:"auto_remove,omitempty"`

	// SaveInterval is the time between two saves of what a running box has
	// written, if it may have changed: what a crash of box or host can lose.
	// Saves are further apart when one makes the box stand still for more than
	// a twentieth of it. Zero means ten seconds, the least is a tenth of one;
	// negative: it is saved by Stop and Sync alone. A box with AutoRemove is
	// not saved.
	SaveInterval time.Duration `json:"save_interval,omitempty"`

	// HealthCheck says how the box is asked whether it is well. Nil: it is not.
	HealthCheck *HealthCheck `json:"health_check,omitempty"`

	// Volumes are directories and files of the host in the box, at most 64.
	Volumes []Volume `json:"volumes,omitempty"`

	// Network says what the box may reach. The zero value is the public
	// internet, and nothing of this host and its networks; see package
	// [github.com/boxlite-go/boxlite/egress]. With mode "disabled" the box has
	// the loopback device alone.
	Network egress.Policy `json:"network,omitzero"`

	// Ports of the box that are published on the host, while the box runs. A
	// port of the host that is taken fails the start.
	Ports []Port `json:"ports,omitempty"`

	// Secrets that the box may use without seeing them. A host of a secret may
	// be reached at port 443 in mode "allowlist" too, without a rule.
	Secrets []Secret `json:"secrets,omitempty"`

	// Security bounds what runs in the box. The zero value is
	// [StandardSecurity].
	Security SecurityOptions `json:"security"`

	// Capabilities of root in the box. The zero value is those that Docker
	// gives.
	Capabilities Capabilities `json:"capabilities,omitzero"`
}

// job tells whether the box has a main command.
func (o *BoxOptions) job() bool { return len(o.Entrypoint)+len(o.Cmd) > 0 }

// SecurityOptions bounds what runs in a box. Limits hold for each command and
// everything it starts, root included; zero means no limit of its own. Start
// from [MaximumSecurity] for code you do not trust.
type SecurityOptions struct {
	MaxOpenFiles int           `json:"max_open_files,omitempty"` // per process
	MaxFileSize  int64         `json:"max_file_size,omitempty"`  // bytes, per file
	MaxProcesses int           `json:"max_processes,omitempty"`  // per command, threads counted
	MaxMemory    int64         `json:"max_memory,omitempty"`     // bytes of address space, per process
	MaxCPUTime   time.Duration `json:"max_cpu_time,omitempty"`   // per process, whole seconds

	// NetworkDisabled leaves the box the loopback device alone, as mode
	// "disabled" of [BoxOptions.Network] does.
	NetworkDisabled bool `json:"network_disabled,omitempty"`

	// ReducedIsolation allows a box on a host that refuses user namespaces:
	// the machine then shares the host's namespaces and only its system call
	// filter stands between it and the host. It shows in [BoxInfo].
	ReducedIsolation bool `json:"reduced_isolation,omitempty"`
}

// DevelopmentSecurity is for finding out whether a limit is in the way. The
// boundary itself is the same.
func DevelopmentSecurity() SecurityOptions { return SecurityOptions{} }

// StandardSecurity is the boundary, without limits per command.
func StandardSecurity() SecurityOptions { return SecurityOptions{} }

// MaximumSecurity is for untrusted code: 1024 open files, files of 1 GiB, 100
// processes. The numbers are the guide's.
func MaximumSecurity() SecurityOptions {
	return SecurityOptions{MaxOpenFiles: 1024, MaxFileSize: 1 << 30, MaxProcesses: 100}
}

// nameRE is what boxes and volumes may be called.
var nameRE = pattern.New(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`)

const nameRule = "use letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 128"

// withDefaults checks the options and fills in what was left out.
func (o BoxOptions) withDefaults() (BoxOptions, error) {
	if o.Image == "" && o.Rootfs == "" {
		o.Image = "alpine:latest"
	}
	o.CPUs = or(o.CPUs, defaultCPUs)
	o.MemoryMiB = or(o.MemoryMiB, defaultMemoryMiB)
	o.DiskSizeGB = or(o.DiskSizeGB, defaultDiskGB)
	if o.SaveInterval == 0 {
		o.SaveInterval = defaultSaveInterval
	}
	if o.HealthCheck != nil {
		c := o.HealthCheck.withDefaults()
		o.HealthCheck = &c
	}
	var err error
	if o.Secrets, err = withPlaceholders(o.Secrets); err != nil {
		return o, err
	}
	if o.Capabilities, err = o.Capabilities.normal(); err != nil {
		return o, err
	}
	return o, o.check()
}

func or(v, def int) int {
	if v == 0 {
		return def
	}
	return v
}

func (o *BoxOptions) check() error {
	switch {
	case o.Name != "" && !nameRE.MatchString(o.Name):
		return fmt.Errorf("%w: name %q: %s", ErrInvalid, o.Name, nameRule)
	case o.Image != "" && o.Rootfs != "":
		return fmt.Errorf("%w: both image %q and rootfs %q: give one", ErrInvalid, o.Image, o.Rootfs)
	case o.CPUs < 1 || o.CPUs > maxCPUs:
		return fmt.Errorf("%w: cpus %d: give 1 to %d", ErrInvalid, o.CPUs, maxCPUs)
	case o.MemoryMiB < minMemoryMiB || o.MemoryMiB > maxMemoryMiB:
		return fmt.Errorf("%w: memory %d MiB: give %d to %d", ErrInvalid, o.MemoryMiB, minMemoryMiB, maxMemoryMiB)
	case o.DiskSizeGB < 1 || o.DiskSizeGB > maxDiskGB:
		return fmt.Errorf("%w: disk size %d GB: give 1 to %d", ErrInvalid, o.DiskSizeGB, maxDiskGB)
	case o.SaveInterval >= 0 && o.SaveInterval < minSaveInterval:
		return fmt.Errorf("%w: save interval %v: give at least %v, or a negative one for none", ErrInvalid, o.SaveInterval, minSaveInterval)
	case o.WorkingDir != "" && o.WorkingDir[0] != '/':
		return fmt.Errorf("%w: working directory %q: give an absolute path in the box", ErrInvalid, o.WorkingDir)
	case len(o.Hostname) > 64:
		return fmt.Errorf("%w: hostname %q: at most 64 characters", ErrInvalid, o.Hostname)
	}
	if err := checkArgs(append(append([]string{}, o.Entrypoint...), o.Cmd...), o.Env); err != nil {
		return err
	}
	if err := checkText(o.WorkingDir, o.User, o.Hostname, o.Rootfs); err != nil {
		return err
	}
	if err := checkLabels(o.Labels); err != nil {
		return err
	}
	if err := checkVolumes(o.Volumes); err != nil {
		return err
	}
	if err := o.checkNetwork(); err != nil {
		return err
	}
	if err := o.HealthCheck.check(); err != nil {
		return err
	}
	return o.Security.check()
}

func checkLabels(labels map[string]string) error {
	size := 0
	for k, v := range labels {
		if k == "" {
			return fmt.Errorf("%w: a label without a key", ErrInvalid)
		}
		if err := checkText(k, v); err != nil {
			return err
		}
		size += len(k) + len(v)
	}
	if len(labels) > maxLabels || size > maxLabelBytes {
		return fmt.Errorf("%w: %d labels of %d bytes: give at most %d of %d", ErrInvalid, len(labels), size, maxLabels, maxLabelBytes)
	}
	return nil
}

func (s *SecurityOptions) check() error {
	for _, l := range []struct {
		name  string
		value int64
	}{
		{"max open files", int64(s.MaxOpenFiles)},
		{"max file size", s.MaxFileSize},
		{"max processes", int64(s.MaxProcesses)},
		{"max memory", s.MaxMemory},
		{"max cpu time", int64(s.MaxCPUTime)},
	} {
		if l.value < 0 {
			return fmt.Errorf("%w: %s %d: give a positive number, or 0 for no limit", ErrInvalid, l.name, l.value)
		}
	}
	return nil
}
