package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// Kind is one class of error on the wire. Clients decide by its code.
type Kind struct {
	Status int
	Type   string
	Code   string
}

// Kinds of error. Type and code are those BoxLite's clients know.
var (
	InvalidArgument = Kind{http.StatusBadRequest, "InvalidArgumentError", "invalid_argument"}
	Unsupported     = Kind{http.StatusBadRequest, "UnsupportedError", "unsupported"}
	Unauthenticated = Kind{http.StatusUnauthorized, "AuthError", "unauthenticated"}
	Forbidden       = Kind{http.StatusForbidden, "PermissionError", "permission_denied"}
	NotFound        = Kind{http.StatusNotFound, "NotFoundError", "not_found"}
	AlreadyExists   = Kind{http.StatusConflict, "AlreadyExistsError", "already_exists"}
	InvalidState    = Kind{http.StatusConflict, "InvalidStateError", "invalid_state"}
	Stopped         = Kind{http.StatusConflict, "StoppedError", "stopped"}
	Reaped          = Kind{http.StatusGone, "SessionReapedError", "session_reaped"}
	TooLarge        = Kind{http.StatusRequestEntityTooLarge, "PayloadTooLargeError", "payload_too_large"}
	Range           = Kind{http.StatusRequestedRangeNotSatisfiable, "InvalidArgumentError", "invalid_argument"}
	Image           = Kind{http.StatusUnprocessableEntity, "ImageError", "image_pull_failed"}
	Execution       = Kind{http.StatusUnprocessableEntity, "ExecutionError", "execution_failed"}
	Exhausted       = Kind{http.StatusTooManyRequests, "ResourceExhaustedError", "resource_exhausted"}
	Network         = Kind{http.StatusServiceUnavailable, "NetworkError", "network_unavailable"}
	Engine          = Kind{http.StatusServiceUnavailable, "EngineError", "engine_unavailable"}
	Timeout         = Kind{http.StatusGatewayTimeout, "TimeoutError", "timeout"}
	Internal        = Kind{http.StatusInternalServerError, "InternalError", "internal"}

	method        = Kind{http.StatusMethodNotAllowed, "InvalidArgumentError", "invalid_argument"}
	lengthMissing = Kind{http.StatusLengthRequired, "InvalidArgumentError", "invalid_argument"}
	misdirected   = Kind{http.StatusMisdirectedRequest, "PermissionError", "permission_denied"}
	gone          = Kind{499, "CanceledError", "canceled"} // nginx's number: nobody reads it
)

// Error is what a client is told.
type Error struct {
	Kind
	Message string
	// RetryAfter, if set, says when to try again.
	RetryAfter time.Duration
	// Err, if set, is the cause. It goes into the log, not to the client.
	Err error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error of this kind. The message names thing and reason.
func (k Kind) Errorf(format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// LengthMissing is the error for a body whose size must be known and is not.
func LengthMissing(what string) *Error {
	return lengthMissing.Errorf("%s: send its Content-Length, or a tar stream", what)
}

// conditions is the table from the errors of the Go API to those of the wire,
// the first that fits.
var conditions = []struct {
	is   error
	kind Kind
	name string
}{
	{boxlite.ErrRuntimeClosed, Stopped, rest.Closed},
	{boxlite.ErrInvalid, InvalidArgument, rest.Invalid},
	{boxlite.ErrUnsupported, Unsupported, rest.Unsupported},
	{boxlite.ErrNotFound, NotFound, rest.NotFound},
	{boxlite.ErrExists, AlreadyExists, rest.Exists},
	{boxlite.ErrState, InvalidState, rest.State},
	{boxlite.ErrExhausted, Exhausted, rest.Exhausted},
	{boxlite.ErrImage, Image, rest.BadImage},
	{boxlite.ErrUnauthorized, Image, rest.Unauthorized},
	{boxlite.ErrUnreachable, Network, rest.Unreachable},
	{boxlite.ErrBoxDied, Engine, rest.BoxDied},
	{fs.ErrNotExist, NotFound, rest.NoFile},
	{fs.ErrExist, AlreadyExists, rest.FileExists},
	{fs.ErrPermission, Forbidden, rest.Permission},
	{syscall.ECONNREFUSED, Network, rest.Refused},
	{context.DeadlineExceeded, Timeout, rest.Deadline},
	{context.Canceled, gone, rest.Canceled},
}

// retryExhausted is when to come back after a bound was met: a command or a
// start takes about that long to make room.
const retryExhausted = time.Second

// ErrorOf finds what a client is told about any error.
func ErrorOf(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge.Errorf("the body is larger than %d bytes", e.Limit)
	}
	if _, ok := errors.AsType[*boxlite.CommandError](err); ok {
		return &Error{Kind: Execution, Message: bare(err, nil), Err: err}
	}
	for _, c := range conditions {
		if errors.Is(err, c.is) {
			e := &Error{Kind: c.kind, Message: bare(err, c.is), Err: err}
			if c.kind == Exhausted {
				e.RetryAfter = retryExhausted
			}
			return e
		}
	}
	return &Error{Kind: Internal, Message: bare(err, nil), Err: err}
}

// bare is the message of err without the name of its condition, which clients
// put in front themselves.
func bare(err, condition error) string {
	msg := err.Error()
	if condition == nil {
		return msg
	}
	e, ok := errors.AsType[*boxlite.Error](err)
	if !ok {
		return strings.TrimPrefix(msg, condition.Error()+": ")
	}
	inner := strings.TrimPrefix(e.Err.Error(), condition.Error()+": ")
	return strings.Replace(msg, e.Err.Error(), inner, 1)
}

// FaultOf is what clients are told about an error, with the cause that the Go
// API gave.
func FaultOf(err error) *rest.Fault {
	e := ErrorOf(err)
	return &rest.Fault{Message: e.Message, Type: e.Type, Code: e.Code, Cause: causeOf(err)}
}

// causeOf takes an error of the Go API apart. It is nil for the server's own.
func causeOf(err error) *rest.Cause {
	c := &rest.Cause{}
	for _, known := range conditions {
		if errors.Is(err, known.is) {
			c.Condition = known.name
			break
		}
	}
	if e, ok := errors.AsType[*boxlite.Error](err); ok {
		c.Op, c.Name, c.Text = e.Op, e.Name, e.Err.Error()
	} else if c.Condition == "" {
		return nil
	} else {
		c.Text = err.Error()
	}
	if e, ok := errors.AsType[*boxlite.CommandError](err); ok {
		c.ExitCode = e.Code
	}
	return c
}

// WriteError answers with an error. Nothing may have been written before.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	e := ErrorOf(err)
	note(r, e)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="boxlite"`)
	}
	f := FaultOf(err)
	f.RequestID = RequestID(r.Context())
	WriteJSON(w, e.Status, rest.Envelope{Error: *f})
}
