package guest

import (
	"io/fs"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// Version is the protocol's number. A host and an agent with different numbers
// refuse each other and say both.
const Version = 1

// MaxFrame is the largest payload of one frame, in bytes.
const MaxFrame = wire.MaxPayload

// Hello is the first frame both ways on every stream.
type Hello struct {
	Proto  int    `json:"proto"`
	Agent  string `json:"agent"`   // version of the sender
	BootID string `json:"boot_id"` // new at each start of the agent; empty from a host
}

// Size is that of a terminal. The zero value means 24 rows of 80 columns.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Limits bound one command and all it starts. Zero means no limit.
type Limits struct {
	OpenFiles    uint64        `json:"open_files,omitempty"`    // RLIMIT_NOFILE
	FileSize     uint64        `json:"file_size,omitempty"`     // RLIMIT_FSIZE, bytes
	Processes    uint64        `json:"processes,omitempty"`     // pids controller: root is bound too
	AddressSpace uint64        `json:"address_space,omitempty"` // RLIMIT_AS, bytes a process
	CPUTime      time.Duration `json:"cpu_time,omitempty"`      // RLIMIT_CPU a process, rounded up to seconds
}

// Command is what to run in a box.
type Command struct {
	ID      string        `json:"id,omitempty"`       // chosen by the caller, [A-Za-z0-9_-]{1,64}; empty: the agent chooses
	Args    []string      `json:"args"`               // Args[0] is looked up in PATH of Env, in the box
	Env     []string      `json:"env,omitempty"`      // whole environment; the agent adds PATH, HOME, USER, and TERM with a TTY, where missing
	Dir     string        `json:"dir,omitempty"`      // empty: /
	MakeDir bool          `json:"make_dir,omitempty"` // create Dir, owned by the user, if missing
	User    string        `json:"user,omitempty"`     // name, uid, name:group, uid:gid; looked up in the box; empty: root
	TTY     *Size         `json:"tty,omitempty"`      // non-nil: run on a terminal of that size
	Stdin   bool          `json:"stdin,omitempty"`    // false: standard input is empty
	Timeout time.Duration `json:"timeout,omitempty"`  // the agent kills the tree after it; 0: never
	Limits  Limits        `json:"limits"`
	Keep    int64         `json:"keep,omitempty"` // bytes of each output stream kept for replay; 0: 1 MiB; the agent bounds it
}

// Cause says how a command ended.
type Cause string

// Causes an agent reports. Out of memory and the death of the box are known
// only to the host.
const (
	Exited   Cause = "exited"
	Signaled Cause = "signaled"
	TimedOut Cause = "timeout"
)

// Exit is how a command ended.
type Exit struct {
	Code      int       `json:"code"`             // 128+signal when a signal ended it
	Signal    int       `json:"signal,omitempty"` // 0 when it exited
	Cause     Cause     `json:"cause"`
	Killed    bool      `json:"killed,omitempty"` // by request of the host (Kill or Signal), not by itself
	StdoutEnd int64     `json:"stdout_end"`       // bytes written to each stream when it ended
	StderrEnd int64     `json:"stderr_end"`
	Time      time.Time `json:"time"`
}

// Execution is a command the agent knows: running, or ended and still kept.
type Execution struct {
	ID      string    `json:"id"`
	Args    []string  `json:"args"`
	PID     int       `json:"pid"` // in the box
	TTY     bool      `json:"tty,omitempty"`
	Started time.Time `json:"started"`
	Exit    *Exit     `json:"exit,omitempty"` // nil while it runs
}

// Kind names what went wrong, over the wire.
type Kind string

// Kinds of error an agent reports.
const (
	KindInvalid       Kind = "invalid"        // the request makes no sense
	KindNotFound      Kind = "not_found"      // command or file: 127
	KindNotExecutable Kind = "not_executable" // command: 126
	KindNoUser        Kind = "no_user"
	KindNoExecution   Kind = "no_execution" // the id is not known, or no longer
	KindExists        Kind = "exists"
	KindPermission    Kind = "permission"
	KindNoSpace       Kind = "no_space"
	KindNotDir        Kind = "not_dir"
	KindIsDir         Kind = "is_dir"
	KindBusy          Kind = "busy"     // a bound was reached: executions, streams
	KindStopping      Kind = "stopping" // the box is shutting down
	KindFailed        Kind = "failed"   // anything else
)

// Error is a failure the agent reported. The message names the thing and the
// cause; it comes from the box, so it is bounded and made printable by whoever
// decodes it.
type Error struct {
	Kind    Kind   `json:"kind"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// Is lets errors.Is match the io/fs sentinels.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Kind == KindNotFound
	case fs.ErrExist:
		return e.Kind == KindExists
	case fs.ErrPermission:
		return e.Kind == KindPermission
	}
	return false
}
