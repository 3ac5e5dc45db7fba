package rest

import (
	"encoding/json"
	"time"
)

// CreateBox is the body of POST /v1/boxes.
type CreateBox struct {
	Name       string    `json:"name,omitempty"`
	Image      string    `json:"image,omitempty"`
	RootfsPath string    `json:"rootfs_path,omitempty"`
	CPUs       int       `json:"cpus,omitempty"`
	MemoryMiB  int       `json:"memory_mib,omitempty"`
	DiskSizeGB int       `json:"disk_size_gb,omitempty"`
	WorkingDir string    `json:"working_dir,omitempty"`
	Env        Env       `json:"env,omitempty"`
	Entrypoint []string  `json:"entrypoint,omitempty"`
	Cmd        []string  `json:"cmd,omitempty"`
	User       string    `json:"user,omitempty"`
	TTY        bool      `json:"tty,omitempty"`
	Detach     bool      `json:"detach,omitempty"`
	AutoStop   int       `json:"auto_stop,omitempty"`   // seconds
	AutoDelete int       `json:"auto_delete,omitempty"` // seconds
	AutoResume *bool     `json:"auto_resume,omitempty"`
	Network    *Network  `json:"network,omitempty"`
	Volumes    []Mount   `json:"volumes,omitempty"`
	Secrets    []Secret  `json:"secrets,omitempty"`
	Advanced   *Advanced `json:"advanced,omitempty"`

	// Beyond BoxLite.
	Hostname   string            `json:"hostname,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	AutoRemove bool              `json:"auto_remove,omitempty"`
	Security   *Security         `json:"security,omitempty"`
	Ports      []Port            `json:"ports,omitempty"`
	// SaveInterval in seconds; negative: saved by stop and sync alone.
	SaveInterval float64 `json:"save_interval,omitempty"`
}

// Mount is a volume of a box to be created.
type Mount struct {
	ManagedVolume string `json:"managed_volume,omitempty"`
	HostPath      string `json:"host_path,omitempty"`
	GuestPath     string `json:"guest_path"`
	ReadOnly      bool   `json:"read_only,omitempty"`
}

// Advanced is what BoxLite's clients send besides.
type Advanced struct {
	Capabilities *Capabilities `json:"capabilities,omitempty"`

	// Beyond BoxLite's servers; its options have both.
	Security    *Security    `json:"security,omitempty"`
	HealthCheck *HealthCheck `json:"health_check,omitempty"`
}

// HealthCheck is when to ask a box whether it is well, in seconds. What is left
// out has its default.
type HealthCheck struct {
	Interval    *float64 `json:"interval,omitempty"`
	Timeout     *float64 `json:"timeout,omitempty"`
	StartPeriod *float64 `json:"start_period,omitempty"`
	Retries     *int     `json:"retries,omitempty"`
}

// Capabilities are those of Linux.
type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// Security starts from a preset; what is given replaces its limit.
type Security struct {
	Preset           string `json:"preset,omitempty"`
	MaxOpenFiles     *int   `json:"max_open_files,omitempty"`
	MaxFileSize      *int64 `json:"max_file_size,omitempty"`
	MaxProcesses     *int   `json:"max_processes,omitempty"`
	MaxMemory        *int64 `json:"max_memory,omitempty"`
	MaxCPUTime       *int64 `json:"max_cpu_time,omitempty"` // seconds
	ReducedIsolation *bool  `json:"reduced_isolation,omitempty"`
	NetworkEnabled   *bool  `json:"network_enabled,omitempty"`
}

// Box is a box as clients see it.
type Box struct {
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
	Network    *NetworkState     `json:"network"`

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
	// Health is that of BoxLite's own API, whose servers do not tell.
	Health HealthStatus `json:"health_status"`
	// Details is the BoxInfo of the Go API, where it was asked for.
	Details json.RawMessage `json:"details,omitempty"`
}

// HealthStatus is what a health check has found out.
type HealthStatus struct {
	State     string     `json:"state"`
	Failures  int        `json:"failures"`
	LastCheck *time.Time `json:"last_check,omitempty"`
}

// Boxes is a page of them.
type Boxes struct {
	Boxes         []Box  `json:"boxes"`
	NextPageToken string `json:"next_page_token,omitempty"`
}

// Stop is the body of POST /v1/boxes/{id}/stop.
type Stop struct {
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty"`
}

// Metrics is what a box uses.
type Metrics struct {
	CommandsExecutedTotal int64       `json:"commands_executed_total"`
	ExecErrorsTotal       int64       `json:"exec_errors_total"`
	BytesSentTotal        int64       `json:"bytes_sent_total"`
	BytesReceivedTotal    int64       `json:"bytes_received_total"`
	CPUPercent            *float64    `json:"cpu_percent,omitempty"`
	MemoryBytes           *int64      `json:"memory_bytes,omitempty"` // nil: it does not run
	NetworkSent           *int64      `json:"network_bytes_sent,omitempty"`
	NetworkReceived       *int64      `json:"network_bytes_received,omitempty"`
	NetworkConnections    *int64      `json:"network_tcp_connections,omitempty"`
	BootTiming            *BootTiming `json:"boot_timing,omitempty"`

	// Beyond BoxLite.
	MemoryLimitBytes int64   `json:"memory_limit_bytes,omitempty"`
	CPUSeconds       float64 `json:"cpu_seconds,omitempty"`
	UptimeSeconds    float64 `json:"uptime_seconds,omitempty"`
	Executions       int     `json:"executions,omitempty"`
	OOMKills         int64   `json:"oom_kills,omitempty"`
	NetworkRefused   int64   `json:"network_refused,omitempty"`
	NetworkOpen      int64   `json:"network_open,omitempty"`
	NetworkLookups   int64   `json:"network_lookups,omitempty"`
}

// BootTiming is how long starts took.
type BootTiming struct {
	TotalCreateMS int64 `json:"total_create_ms"`
}
