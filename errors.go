package boxlite

import (
	"errors"
	"fmt"
)

// Conditions a caller may want to tell apart, for [errors.Is]. Every error of
// this package names the thing, the cause and, where there is one, the next
// step.
var (
	ErrNotFound      = errors.New("not found")          // no such box, image, execution or file
	ErrExists        = errors.New("already exists")     // the name is taken, or a port of the host
	ErrState         = errors.New("wrong state")        // the box is not in a state that allows it
	ErrInvalid       = errors.New("invalid argument")   // an option makes no sense
	ErrUnsupported   = errors.New("unsupported")        // this host or engine cannot do it
	ErrUnauthorized  = errors.New("unauthorized")       // the registry, or the server, wants other credentials
	ErrUnreachable   = errors.New("unreachable")        // the registry, or the server, does not answer
	ErrImage         = errors.New("bad image")          // it is damaged, hostile or not for this platform
	ErrExhausted     = errors.New("resource exhausted") // disk space, memory or a bound
	ErrBoxDied       = errors.New("box died")           // the boundary ended under the caller
	ErrRuntimeClosed = errors.New("runtime is closed")  // Close was called
)

// Error says what could not be done to which thing. Its cause is one of the
// conditions above where one applies.
type Error struct {
	Op   string // "start", "pull", ...
	Name string // the box, image or path, as the caller wrote it
	Err  error
}

func (e *Error) Error() string {
	if e.Name == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s %q: %v", e.Op, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Cause says how a command ended.
type Cause string

// Causes. CauseOOM means that the memory limit of the box killed the command,
// CauseBoxDied that the box ended under it.
const (
	CauseExited   Cause = "exited"
	CauseSignaled Cause = "signaled"
	CauseTimeout  Cause = "timeout"
	CauseOOM      Cause = "oom"
	CauseBoxDied  Cause = "box died"
)

// ExitError is a command that ran and did not succeed.
type ExitError struct {
	Code   int    // exit code; 128+Signal when a signal ended it; -1 when the box died
	Signal int    // 0: none
	Cause  Cause  // never empty
	Stderr []byte // the beginning and end of it, if Cmd.Stderr was nil and Output collected it
	Reason string // why the box died, if it did
}

func (e *ExitError) Error() string {
	switch e.Cause {
	case CauseSignaled:
		return fmt.Sprintf("killed by signal %d", e.Signal)
	case CauseTimeout:
		return "killed: its time was up"
	case CauseOOM:
		return "killed: the box is out of memory; give it more (BoxOptions.MemoryMiB)"
	case CauseBoxDied:
		if e.Reason != "" {
			return "box died: " + e.Reason
		}
		return "box died"
	}
	return fmt.Sprintf("exit status %d", e.Code)
}

// Is makes errors.Is(err, ErrBoxDied) true for a command whose box died.
func (e *ExitError) Is(target error) bool {
	return target == ErrBoxDied && e.Cause == CauseBoxDied
}

// CommandError is a command that could not be run at all.
type CommandError struct {
	Code int   // what a shell would exit with: 127 not found, 126 found but cannot be run
	Err  error // names the command
}

func (e *CommandError) Error() string { return e.Err.Error() }

func (e *CommandError) Unwrap() error { return e.Err }
