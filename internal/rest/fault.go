package rest

// Envelope is the body of every error.
type Envelope struct {
	Error Fault `json:"error"`
}

// Fault is what went wrong.
type Fault struct {
	Message   string `json:"message"`
	Type      string `json:"type"`
	Code      string `json:"code"`
	RequestID string `json:"request_id,omitempty"`

	// Cause is what the Go API said. It is beyond BoxLite.
	Cause *Cause `json:"cause,omitempty"`
}

// Cause is an error of the Go API in parts, so that a client in Go has the same.
type Cause struct {
	Condition string `json:"condition,omitempty"`
	Op        string `json:"op,omitempty"`
	Name      string `json:"name,omitempty"`
	Text      string `json:"text"`
	ExitCode  int    `json:"exit_code,omitempty"` // of a command that cannot be run: 126 or 127
}

// Conditions of the Go API, by name.
const (
	NotFound     = "not_found"
	Exists       = "exists"
	State        = "state"
	Invalid      = "invalid"
	Unsupported  = "unsupported"
	Unauthorized = "unauthorized"
	Unreachable  = "unreachable"
	BadImage     = "image"
	Exhausted    = "exhausted"
	BoxDied      = "box_died"
	Closed       = "closed"
	NoFile       = "no_file"
	FileExists   = "file_exists"
	Permission   = "permission"
	Refused      = "refused"
	Deadline     = "deadline"
	Canceled     = "canceled"
)
