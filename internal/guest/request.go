package guest

import (
	"fmt"
	"io/fs"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of a request. The agent refuses what is over them, so that no request
// costs it more memory than a few frames.
const (
	MaxArgs = 4096 // of Args and of Env, each
	MaxPath = 4096 // bytes, as PATH_MAX
	maxText = 256  // user names and the like, bytes
)

// Op is what a stream is for.
type Op string

// Operations an agent knows.
const (
	OpPing       Op = "ping"
	OpStart      Op = "start"
	OpAttach     Op = "attach"
	OpExecutions Op = "executions"
	OpExecution  Op = "execution"
	OpSignal     Op = "signal"
	OpKill       Op = "kill"
	OpResize     Op = "resize"
	OpShutdown   Op = "shutdown"
	OpTrust      Op = "trust"
	OpCopyIn     Op = "copy_in"
	OpCopyOut    Op = "copy_out"
	OpStat       Op = "stat"
	OpReadDir    Op = "read_dir"
	OpReadlink   Op = "readlink"
	OpReadFile   Op = "read_file"
	OpWriteFile  Op = "write_file"
	OpMkdir      Op = "mkdir"
	OpRemove     Op = "remove"
	OpRename     Op = "rename"
)

// Request is the second frame of a stream, from the host. Which fields an
// operation reads is told by [Request.Validate].
type Request struct {
	Op      Op             `json:"op"`
	ID      string         `json:"id,omitempty"` // of an execution
	Command *Command       `json:"command,omitempty"`
	Attach  *AttachOptions `json:"attach,omitempty"`
	Signal  int            `json:"signal,omitempty"`
	Size    *Size          `json:"size,omitempty"`
	Grace   time.Duration  `json:"grace,omitempty"`
	In      *CopyIn        `json:"in,omitempty"`
	Out     *CopyOut       `json:"out,omitempty"`
	Path    []byte         `json:"path,omitempty"` // file names are bytes, not text
	To      []byte         `json:"to,omitempty"`
	Perm    fs.FileMode    `json:"perm,omitempty"`
	All     bool           `json:"all,omitempty"`    // Mkdir: parents too; Remove: what is below too
	Follow  bool           `json:"follow,omitempty"` // Stat: of what a link names
	Trust   *Trust         `json:"trust,omitempty"`
}

// AttachOptions say from where to follow an execution. The zero value follows
// all that is kept, losing nothing, without standard input.
type AttachOptions struct {
	StdoutFrom int64 `json:"stdout_from,omitempty"` // offset in the whole output; before what is kept: a gap
	StderrFrom int64 `json:"stderr_from,omitempty"`
	Stdin      bool  `json:"stdin,omitempty"` // send standard input from here on
	Lossy      bool  `json:"lossy,omitempty"` // fall behind rather than hold up the command
}

// CopyIn says where the entries of a tar stream go in a box.
type CopyIn struct {
	// Path is absolute. An existing directory, or a Path that ends in a
	// slash, receives the entries below it. Otherwise a stream of exactly one
	// file or symbolic link becomes Path itself, and anything else makes Path
	// a directory and goes below it. Parents are made.
	Path string `json:"path"`
	// TopAsPath makes the single top directory of the stream become Path
	// when Path does not exist, as docker cp does.
	TopAsPath bool `json:"top_as_path,omitempty"`
	// NoOverwrite refuses, with KindExists, an entry that is there already.
	// Directories are not overwritten but merged.
	NoOverwrite bool `json:"no_overwrite,omitempty"`
	// User owns what is made, as in [Command]. Empty: root.
	User string `json:"user,omitempty"`
}

// CopyOut says what of a box becomes a tar stream.
type CopyOut struct {
	Path        string `json:"path"`                   // absolute
	FollowLinks bool   `json:"follow_links,omitempty"` // symbolic links become what they name
	Contents    bool   `json:"contents,omitempty"`     // of a directory: its entries, without itself
}

// Gap says that output of an execution is no longer kept.
type Gap struct {
	Stderr bool  `json:"stderr,omitempty"` // of standard error, else of standard output
	From   int64 `json:"from"`             // offset of the first byte that is missing
	To     int64 `json:"to"`               // offset at which the output goes on
}

// Trailer ends a stream of data.
type Trailer struct {
	Skipped      []string `json:"skipped,omitempty"` // CopyOut: the first names left out
	SkippedCount int      `json:"skipped_count,omitempty"`
	Entries      int64    `json:"entries,omitempty"` // CopyIn: entries written
}

// ValidID reports whether id can name an execution.
func ValidID(id string) bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

func invalid(format string, args ...any) *Error {
	return &Error{Kind: KindInvalid, Message: fmt.Sprintf(format, args...)}
}

// Validate checks the fields that the operation reads. The error is an
// [*Error] of KindInvalid. Both sides call it: a host for an early error, an
// agent because it trusts no host.
func (r *Request) Validate() error {
	if err := r.validate(); err != nil {
		return err
	}
	return nil
}

func (r *Request) validate() *Error {
	switch r.Op {
	case OpPing, OpExecutions:
		return nil
	case OpShutdown:
		if r.Grace < 0 {
			return invalid("negative grace %v", r.Grace)
		}
		return nil
	case OpStart:
		return r.Command.validate()
	case OpTrust:
		return r.Trust.validate()
	case OpAttach:
		return r.validateAttach()
	case OpExecution, OpKill, OpSignal, OpResize:
		return r.validateControl()
	case OpCopyIn:
		if r.In == nil {
			return invalid("copy in without options")
		}
		return validPath(r.In.Path, r.In.User)
	case OpCopyOut:
		if r.Out == nil {
			return invalid("copy out without options")
		}
		return validPath(r.Out.Path, "")
	case OpStat, OpReadDir, OpReadlink, OpReadFile, OpWriteFile, OpMkdir, OpRemove:
		return validPath(string(r.Path), "")
	case OpRename:
		if err := validPath(string(r.Path), ""); err != nil {
			return err
		}
		return validPath(string(r.To), "")
	}
	return invalid("unknown operation %q", r.Op)
}

func (r *Request) validateAttach() *Error {
	if r.Attach == nil || !ValidID(r.ID) {
		return invalid("attach without options or with a malformed id")
	}
	if r.Attach.StdoutFrom < 0 || r.Attach.StderrFrom < 0 {
		return invalid("attach from a negative offset")
	}
	return nil
}

func (r *Request) validateControl() *Error {
	switch {
	case !ValidID(r.ID):
		return invalid("malformed execution id %q", r.ID)
	case r.Op == OpSignal && (r.Signal < 1 || r.Signal > 64):
		return invalid("no signal %d", r.Signal)
	case r.Op == OpResize && r.Size == nil:
		return invalid("resize without a size")
	}
	return nil
}

func validPath(path, user string) *Error {
	switch {
	case path == "":
		return invalid("empty path")
	case path[0] != '/':
		return invalid("path %q is not absolute", path)
	case len(path) > MaxPath:
		return invalid("path of %d bytes, at most %d", len(path), MaxPath)
	case strings.IndexByte(path, 0) >= 0:
		return invalid("path %q has a zero byte", path)
	}
	return validUser(user)
}

func validUser(user string) *Error {
	if len(user) > maxText || strings.ContainsAny(user, "\x00\n/ ") {
		return invalid("malformed user %q", user)
	}
	return nil
}

func (c *Command) validate() *Error {
	switch {
	case c == nil || len(c.Args) == 0 || c.Args[0] == "":
		return invalid("no command")
	case len(c.Args) > MaxArgs:
		return invalid("%d arguments, at most %d", len(c.Args), MaxArgs)
	case len(c.Env) > MaxArgs:
		return invalid("%d environment variables, at most %d", len(c.Env), MaxArgs)
	case c.ID != "" && !ValidID(c.ID):
		return invalid("malformed execution id %q", c.ID)
	case c.Timeout < 0 || c.Limits.CPUTime < 0 || c.Keep < 0:
		return invalid("negative timeout, CPU time or keep")
	case len(c.Dir) > MaxPath:
		return invalid("directory of %d bytes, at most %d", len(c.Dir), MaxPath)
	}
	for _, list := range [][]string{c.Args, c.Env, {c.Dir}} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s) {
				return invalid("%q is not text: it has a zero byte or is not UTF-8", s)
			}
		}
	}
	for _, e := range c.Env {
		if strings.IndexByte(e, '=') <= 0 {
			return invalid("environment variable %q is not NAME=value", e)
		}
	}
	return validUser(c.User)
}
