package restapi

import (
	"maps"
	"time"

	"github.com/boxlite-go/boxlite"
)

// createRequest is the body of POST /v1/boxes.
type createRequest struct {
	Name       string            `json:"name"`
	Image      string            `json:"image"`
	RootfsPath string            `json:"rootfs_path"`
	CPUs       int               `json:"cpus"`
	MemoryMiB  int               `json:"memory_mib"`
	DiskSizeGB int               `json:"disk_size_gb"`
	WorkingDir string            `json:"working_dir"`
	Env        map[string]string `json:"env"`
	Entrypoint []string          `json:"entrypoint"`
	Cmd        []string          `json:"cmd"`
	User       string            `json:"user"`
	TTY        bool              `json:"tty"`
	Detach     bool              `json:"detach"`
	AutoStop   int               `json:"auto_stop"`   // seconds
	AutoDelete int               `json:"auto_delete"` // seconds
	AutoResume *bool             `json:"auto_resume"`
	Network    *networkRequest   `json:"network"`
	Volumes    []volumeRequest   `json:"volumes"`
	Secrets    []secretRequest   `json:"secrets"`
	Advanced   *advancedRequest  `json:"advanced"`

	// Beyond BoxLite.
	Hostname   string            `json:"hostname"`
	Labels     map[string]string `json:"labels"`
	AutoRemove bool              `json:"auto_remove"`
	Security   *securityRequest  `json:"security"`
	Ports      []portShape       `json:"ports"`
	// SaveInterval in seconds; negative: saved by stop and sync alone.
	SaveInterval float64 `json:"save_interval"`
}

type volumeRequest struct {
	ManagedVolume string `json:"managed_volume"`
	HostPath      string `json:"host_path"`
	GuestPath     string `json:"guest_path"`
	ReadOnly      bool   `json:"read_only"`
}

type advancedRequest struct {
	Capabilities *struct {
		Add  []string `json:"add"`
		Drop []string `json:"drop"`
	} `json:"capabilities"`
	Security *securityRequest `json:"security"`
}

// securityRequest starts from a preset; what is given replaces its limit.
type securityRequest struct {
	Preset           string `json:"preset"`
	MaxOpenFiles     *int   `json:"max_open_files"`
	MaxFileSize      *int64 `json:"max_file_size"`
	MaxProcesses     *int   `json:"max_processes"`
	MaxMemory        *int64 `json:"max_memory"`
	MaxCPUTime       *int64 `json:"max_cpu_time"` // seconds
	ReducedIsolation *bool  `json:"reduced_isolation"`
	NetworkEnabled   *bool  `json:"network_enabled"`
}

// boxReply is a box as clients see it.
type boxReply struct {
	BoxID      string            `json:"box_id"`
	Name       *string           `json:"name"`
	Status     string            `json:"status"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
	StartedAt  *time.Time        `json:"started_at,omitempty"`
	PID        *int              `json:"pid"`
	Image      string            `json:"image"`
	CPUs       int               `json:"cpus"`
	MemoryMiB  int               `json:"memory_mib"`
	Labels     map[string]string `json:"labels"`
	AutoStop   int               `json:"auto_stop"`
	AutoDelete int               `json:"auto_delete"`
	AutoResume bool              `json:"auto_resume"`
	ExitCode   *int              `json:"exit_code,omitempty"`
	Network    *networkReply     `json:"network"`

	// Beyond BoxLite.
	Reason      string `json:"reason,omitempty"`
	OOMKilled   bool   `json:"oom_killed,omitempty"`
	Engine      string `json:"engine,omitempty"`
	Isolation   string `json:"isolation,omitempty"`
	ImageDigest string `json:"image_digest,omitempty"`
	DiskSizeGB  int    `json:"disk_size_gb"`
	DiskBytes   int64  `json:"disk_bytes"`
	Detach      bool   `json:"detach"`
	AutoRemove  bool   `json:"auto_remove"`
}

func boxOf(i boxlite.BoxInfo) boxReply {
	o := i.Options
	terms := termsOf(o.Labels)
	b := boxReply{
		BoxID: i.ID, Status: string(i.State), CreatedAt: i.Created.UTC(), UpdatedAt: updated(i).UTC(),
		Image: o.Image, CPUs: o.CPUs, MemoryMiB: o.MemoryMiB, Labels: publicLabels(o.Labels),
		AutoStop: terms.stop, AutoDelete: terms.remove, AutoResume: terms.resume, ExitCode: i.ExitCode, Network: networkOf(i),
		Reason: i.Reason, OOMKilled: i.OOM, Engine: i.Engine, Isolation: i.Isolation, ImageDigest: i.ImageDigest,
		DiskSizeGB: o.DiskSizeGB, DiskBytes: i.DiskBytes, Detach: o.Detach, AutoRemove: o.AutoRemove,
	}
	if o.Image == "" {
		b.Image = o.Rootfs
	}
	if i.Name != "" {
		b.Name = &i.Name
	}
	if i.PID != 0 {
		b.PID = &i.PID
	}
	if !i.Started.IsZero() {
		at := i.Started.UTC()
		b.StartedAt = &at
	}
	return b
}

// updated is the last change of state that is known.
func updated(i boxlite.BoxInfo) time.Time {
	last := i.Created
	for _, t := range []time.Time{i.Started, i.Finished, i.Saved} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// Labels in which the server keeps what the Go API has no field for.
const (
	labelPrefix     = "boxlite.rest/"
	labelAutoStop   = labelPrefix + "auto-stop"
	labelAutoDelete = labelPrefix + "auto-delete"
	labelNoResume   = labelPrefix + "no-auto-resume"
)

// publicLabels leaves out the server's own.
func publicLabels(labels map[string]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	for _, own := range []string{labelAutoStop, labelAutoDelete, labelNoResume} {
		delete(out, own)
	}
	return out
}

type listReply struct {
	Boxes         []boxReply `json:"boxes"`
	NextPageToken string     `json:"next_page_token,omitempty"`
}

// execRequest is the body of POST /v1/boxes/{id}/exec.
type execRequest struct {
	Command        string            `json:"command"`
	Args           []string          `json:"args"`
	Env            map[string]string `json:"env"`
	TimeoutSeconds *float64          `json:"timeout_seconds"`
	WorkingDir     string            `json:"working_dir"`
	TTY            bool              `json:"tty"`
	Stdin          *string           `json:"stdin"`

	// Beyond BoxLite.
	User  string           `json:"user"`
	Cols  uint16           `json:"cols"`
	Rows  uint16           `json:"rows"`
	Limit *securityRequest `json:"limits"`
}

type execReply struct {
	ExecutionID string `json:"execution_id"`
}

type executionReply struct {
	ExecutionID  string     `json:"execution_id"`
	Status       string     `json:"status"`
	ExitCode     *int       `json:"exit_code,omitempty"`
	StartedAt    *time.Time `json:"started_at,omitempty"`
	DurationMS   *int64     `json:"duration_ms,omitempty"`
	ErrorMessage string     `json:"error_message,omitempty"`

	// Beyond BoxLite.
	Signal int      `json:"signal,omitempty"`
	Cause  string   `json:"cause,omitempty"`
	Args   []string `json:"args,omitempty"`
	PID    int      `json:"pid,omitempty"`
	TTY    bool     `json:"tty,omitempty"`
}

type executionsReply struct {
	Executions []executionReply `json:"executions"`
}

type signalRequest struct {
	Signal int `json:"signal"`
}

type resizeRequest struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

type stopRequest struct {
	TimeoutSeconds *float64 `json:"timeout_seconds"`
}

type imageReply struct {
	Reference  string    `json:"reference"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	ID         string    `json:"id"`
	CachedAt   time.Time `json:"cached_at"`
	SizeBytes  int64     `json:"size_bytes"`
	Digest     string    `json:"digest"`
	Layers     int       `json:"layers"`
}

type imagesReply struct {
	Images []imageReply `json:"images"`
}

type pullRequest struct {
	Reference string `json:"reference"`
}

type removedReply struct {
	FreedBytes int64 `json:"freed_bytes"`
}
