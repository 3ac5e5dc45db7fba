package boxlite

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"net"
	"syscall"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// backend is where a runtime keeps its boxes: local, this host, or remote, a
// server. What the public API promises is written once, at the exported types;
// both keep it, and the tests of this package run on both. Its errors are
// [*Error] with the condition in it, as the caller gets them.
type backend interface {
	boxStore
	runtimeFacts
	images() imageStore
	volumes() volumeStore
	Close() error
}

type runtimeFacts interface {
	Info(ctx context.Context) (Info, error)
	Engines(ctx context.Context) []EngineStatus
	Whoami(ctx context.Context) (Identity, error)
}

// boxStore makes and finds boxes.
type boxStore interface {
	Create(ctx context.Context, o BoxOptions) (*Box, error)
	Box(ctx context.Context, key string) (*Box, error)
	Boxes(ctx context.Context) ([]BoxInfo, error)
	named(ctx context.Context, name string) (*Box, error) // by its whole name alone
}

// imageStore is what [Images] does.
type imageStore interface {
	imageSource
	imageShelf
}

type imageSource interface {
	Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error)
	Ensure(ctx context.Context, ref string, progress func(Progress)) (Image, error)
	Load(ctx context.Context, path string) ([]Image, error)
	LoadFrom(ctx context.Context, r io.Reader) ([]Image, error)
	Import(ctx context.Context, r io.Reader, ref string, c ImageConfig) (Image, error)
}

type imageShelf interface {
	List(ctx context.Context) ([]Image, error)
	Get(ctx context.Context, ref string) (Image, error)
	Save(ctx context.Context, w io.Writer, refs []string, oci bool) error
	Remove(ctx context.Context, ref string) (int64, error)
	Prune(ctx context.Context, all bool) ([]Image, int64, error)
}

// volumeStore is what [Volumes] does.
type volumeStore interface {
	Create(ctx context.Context, name string) (VolumeInfo, error)
	Inspect(ctx context.Context, name string) (VolumeInfo, error)
	List(ctx context.Context) ([]VolumeInfo, error)
	Remove(ctx context.Context, name string) error
	Prune(ctx context.Context) ([]VolumeInfo, error)
}

// boxBackend is one box of a backend.
type boxBackend interface {
	boxLife
	boxFacts
	boxCommands
	boxNetwork

	// files asks the box for files, starting it if needed.
	files() files
	// condition finds the public condition behind an error of any of these.
	condition(err error) error
}

type boxLife interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
	Remove(ctx context.Context, o RemoveOptions) error
	Sync(ctx context.Context) error
}

type boxFacts interface {
	Info(ctx context.Context) (BoxInfo, error)
	Stats(ctx context.Context) (Stats, error)
	Logs(ctx context.Context, o LogOptions) (io.ReadCloser, error)
	NetworkLog(ctx context.Context, o NetworkLogOptions) iter.Seq2[egress.Event, error]
}

type boxCommands interface {
	Executions(ctx context.Context) ([]Execution, error)
	Execution(ctx context.Context, id string) (Execution, error)
	// start starts what c says: a command, the main command, or an attach.
	start(c *Cmd) (process, error)
	// ended does what is to be done after the end of c, and says how it ended.
	ended(c *Cmd) error
	control(ctx context.Context, id string, o order) error
}

type boxNetwork interface {
	SetNetwork(ctx context.Context, p egress.Policy) error
	SetSecret(name, value string) error
	connect(ctx context.Context, network string, port uint16) (boxStream, error)
}

// process is a stream to an execution.
type process interface {
	ID() string
	// Stdin is used by one goroutine. Close sends the end of the input.
	Stdin() io.WriteCloser
	// Copy writes output until the command has ended and says how. The error
	// wraps io.ErrUnexpectedEOF when the stream broke before that.
	Copy(stdout, stderr io.Writer) (guest.Exit, error)
	// Lost is how many bytes of output were missing, valid after Copy.
	Lost() (stdout, stderr int64)
	// Close detaches; a Copy under way returns.
	Close() error
}

// order is something to do to an execution: one of the fields is set.
type order struct {
	kill   bool
	signal syscall.Signal
	size   *Terminal
}

// files is the file system of a box, and streams in and out of it. Paths are
// absolute, but for those of guest.CopyIn and guest.CopyOut also clean.
type files interface {
	fileTree
	fileData
}

type fileTree interface {
	Stat(ctx context.Context, name string) (fs.FileInfo, error)
	Lstat(ctx context.Context, name string) (fs.FileInfo, error)
	ReadDir(ctx context.Context, name string) ([]fs.FileInfo, error)
	Readlink(ctx context.Context, name string) (string, error)
}

type fileData interface {
	OpenFile(ctx context.Context, name string) (io.ReadCloser, error)
	WriteFile(ctx context.Context, name string, perm fs.FileMode, r io.Reader) error
	CopyIn(ctx context.Context, in guest.CopyIn, r io.Reader) error
	CopyOut(ctx context.Context, out guest.CopyOut) (io.ReadCloser, error)
}

// boxStream is a connection into a box, which can be closed one way.
type boxStream interface {
	net.Conn
	CloseWrite() error
}
