package boxlite

import (
	"runtime/debug"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

// State is what a box is doing.
type State string

// States of a box.
const (
	StateConfigured State = "configured" // created, never started
	StateRunning    State = "running"
	StatePaused     State = "paused"
	StateStopping   State = "stopping"
	StateStopped    State = "stopped"
	StateFailed     State = "failed" // ended by itself; BoxInfo.Reason says why. It may be started again
)

// BoxInfo is what is known of a box at one moment. It is a copy.
type BoxInfo struct {
	ID          string     `json:"id"`
	Name        string     `json:"name,omitempty"`
	State       State      `json:"state"`
	Reason      string     `json:"reason,omitempty"` // why it failed
	Options     BoxOptions `json:"options"`          // defaults filled in
	ImageDigest string     `json:"image_digest,omitempty"`
	Engine      string     `json:"engine,omitempty"`    // that runs it or ran it last
	Isolation   string     `json:"isolation,omitempty"` // "full" or "reduced"; empty until started
	PID         int        `json:"pid,omitempty"`       // host process that owns it, while it runs
	ExitCode    *int       `json:"exit_code,omitempty"` // of the main command, once ended
	OOM         bool       `json:"oom,omitempty"`       // the memory limit ended it
	// Mounts are the volumes as they were found when the box was last started:
	// host paths without symbolic links, those of named volumes too.
	Mounts    []Volume  `json:"mounts,omitempty"`
	Created   time.Time `json:"created"`
	Started   time.Time `json:"started,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	DiskBytes int64     `json:"disk_bytes"` // saved writable layer on the host
	// Saved is when its files were last saved: all that was written before is.
	Saved time.Time `json:"saved,omitzero"`
	// Unsaved says that something has run in the box since, so that not all
	// it has written may be saved. Only a running box has it.
	Unsaved bool `json:"unsaved,omitempty"`
	// SaveError is why the last save failed; the one before it is kept.
	SaveError string `json:"save_error,omitempty"`
	// Health is what the health check of a running box has found out.
	Health Health `json:"health"`

	// Ports that are published now, with those that the host chose.
	Ports []Port `json:"ports,omitempty"`
	// Refusals are the last few of what the box tried to reach and may not,
	// oldest first. All is in [Box.NetworkLog].
	Refusals []egress.Event `json:"refusals,omitempty"`
}

// Stats is what a running box uses of the host.
type Stats struct {
	CPU         time.Duration `json:"cpu"`          // since its start
	Memory      int64         `json:"memory"`       // bytes now, boundary included
	MemoryLimit int64         `json:"memory_limit"` // bytes
	Executions  int           `json:"executions"`   // running now
	OOMKills    int64         `json:"oom_kills"`
	Uptime      time.Duration `json:"uptime"`
	Network     NetworkStats  `json:"network"`
}

// NetworkStats is what a box did on the network since its start.
type NetworkStats struct {
	Sent        int64 `json:"sent"`        // bytes, by the box
	Received    int64 `json:"received"`    // bytes, by the box
	Connections int64 `json:"connections"` // begun, both ways, UDP flows too
	Open        int64 `json:"open"`        // of these, now
	Refused     int64 `json:"refused"`     // connections and names
	Lookups     int64 `json:"lookups"`     // questions to the resolver of the box
}

// Execution is a command in a box: running, or ended and still remembered.
type Execution struct {
	ID      string    `json:"id"`
	Args    []string  `json:"args"`
	PID     int       `json:"pid"` // in the box
	TTY     bool      `json:"tty,omitempty"`
	Started time.Time `json:"started"`
	// ExitCode is nil while it runs.
	ExitCode *int      `json:"exit_code,omitempty"`
	Signal   int       `json:"signal,omitempty"` // that ended it
	Cause    Cause     `json:"cause,omitempty"`  // empty while it runs
	Ended    time.Time `json:"ended,omitzero"`
}

// Info describes a runtime.
type Info struct {
	Version string        `json:"version"`
	Home    string        `json:"home"`
	Engine  string        `json:"engine"` // empty: the first of the helper
	Boxes   map[State]int `json:"boxes"`
	Images  int           `json:"images"`
	OS      string        `json:"os"`
	Arch    string        `json:"arch"`
}

// version is set by the build of the product.
var version = ""

// Version of this boxlite.
func Version() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}
