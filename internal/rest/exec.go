package rest

import "time"

// Exec is the body of POST /v1/boxes/{id}/exec.
type Exec struct {
	Command        string   `json:"command"`
	Args           []string `json:"args,omitempty"`
	Env            Env      `json:"env,omitempty"`
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty"`
	WorkingDir     string   `json:"working_dir,omitempty"`
	TTY            bool     `json:"tty,omitempty"`
	Stdin          *string  `json:"stdin,omitempty"`

	// Beyond BoxLite.
	User  string    `json:"user,omitempty"`
	Cols  uint16    `json:"cols,omitempty"`
	Rows  uint16    `json:"rows,omitempty"`
	Limit *Security `json:"limits,omitempty"`
}

// RunMain is the body of POST /v1/boxes/{id}/main, which is beyond BoxLite.
type RunMain struct {
	Stdin          bool     `json:"stdin,omitempty"`
	Cols           uint16   `json:"cols,omitempty"`
	Rows           uint16   `json:"rows,omitempty"`
	TimeoutSeconds *float64 `json:"timeout_seconds,omitempty"`
}

// Started names an execution.
type Started struct {
	ExecutionID string `json:"execution_id"`
}

// Execution is what is known of one.
type Execution struct {
	ExecutionID  string     `json:"execution_id"`
	Status       string     `json:"status"`
	ExitCode     *int       `json:"exit_code,omitempty"`
	StartedAt    *time.Time `json:"started_at,omitempty"`
	DurationMS   *int64     `json:"duration_ms,omitempty"`
	ErrorMessage string     `json:"error_message,omitempty"`

	// Beyond BoxLite.
	Signal  int        `json:"signal,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Args    []string   `json:"args,omitempty"`
	PID     int        `json:"pid,omitempty"`
	TTY     bool       `json:"tty,omitempty"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
}

// Executions is those of a box.
type Executions struct {
	Executions []Execution `json:"executions"`
}

// Signal is the body of POST .../signal.
type Signal struct {
	Signal int `json:"signal"`
}

// Resize is the body of POST .../resize.
type Resize struct {
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
}

// Channels of output, as the first byte of a binary frame of an attach.
const (
	Stdout = 1
	Stderr = 2
)

// InputWindow is how much input, in bytes, a client that asked for acks may have sent
// beyond what the command has been given.
const InputWindow = 1 << 20

// Frame is a text frame of an attach, to the client. Which fields it has
// depends on its type: exit, error, gap or taken.
type Frame struct {
	Type string `json:"type"`

	ExitCode int    `json:"exit_code"`
	Signal   int    `json:"signal"`
	Cause    string `json:"cause"`
	Message  string `json:"message"`
	Reason   string `json:"reason"` // why the box died

	Code string `json:"code"` // of an error

	Stream string `json:"stream"` // of a gap, in bytes
	From   int64  `json:"from"`
	To     int64  `json:"to"`

	Bytes int64 `json:"bytes"` // of input that was taken
}

// Order is a text frame of an attach, to the server.
type Order struct {
	Type string `json:"type"`
	Cols uint16 `json:"cols,omitempty"`
	Rows uint16 `json:"rows,omitempty"`
	Sig  int    `json:"sig,omitempty"`
}
