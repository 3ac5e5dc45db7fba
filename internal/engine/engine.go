// Package engine is the contract between boxlite and what makes boundaries.
//
// An engine only boots a machine and dials the agent in it. Everything a user
// does in a box goes through the guest protocol over what Dial returns, so it
// is the same on every engine.
package engine

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"
)

// Engine makes machines. It must be safe for concurrent use.
//
// Duties of an implementer, all judged by package enginetest:
//   - Start and Check run in a helper process (the shim), never in the
//     caller's program; a machine must not outlive the process that started
//     it, however that process dies (kill -9 included).
//   - Start leaves nothing behind when it fails or its ctx ends.
//   - Nothing of the host is visible in the box but what Spec names: no
//     environment, no descriptor, no path.
type Engine interface {
	// Name is short, lower-case and stable: it is stored with every box.
	Name() string
	// Check proves that machines work on this host, by booting one and
	// running a command in it. The error is an [*Unsupported] when the host
	// lacks something. It ends within the deadline of ctx, or ten seconds.
	Check(ctx context.Context) error
	// Start boots a machine and returns when Dial can work.
	Start(ctx context.Context, s Spec) (Machine, error)
}

// Machine is one live boundary. All methods are safe for concurrent use.
type Machine interface {
	// Dial opens a fresh stream to the agent. The caller closes it. The error
	// is [ErrEnded] when the machine has ended or is about to.
	Dial(ctx context.Context) (net.Conn, error)
	// Stop ends the machine and everything in it: orderly until ctx ends,
	// then by force. It does not save the disk. It is idempotent, and when it
	// returns no process, mount, socket or cgroup of the machine is left.
	Stop(ctx context.Context) error
	// Done is closed when the machine has ended and been cleaned up.
	Done() <-chan struct{}
	// Err says why the machine ended: nil after Stop, [ErrOutOfMemory] when
	// its memory limit killed it, else what is known. Valid after Done.
	Err() error
}

// DiskSaver is the optional power of a machine whose writable layer lives in
// memory while it runs.
type DiskSaver interface {
	// SaveDisk writes the writable layer to Spec.Disk. It is atomic: after a
	// crash at any moment the layer there is the old one or the new one, and
	// when it returns nil the new one is on stable storage. When it fails, the
	// old one is there and the machine goes on.
	SaveDisk(ctx context.Context) (Saved, error)
	// Activity is a number that is another one whenever something has run in
	// the box: between two equal ones nothing in it can have changed. Zero
	// means that it cannot be known. Asking costs the machine nothing.
	Activity() uint64
}

// Saved is what a save did.
type Saved struct {
	Paused    time.Duration // how long the box stood still
	Unchanged bool          // what was saved before is still the same
	Mended    error         // what had become of that, for which all was written anew
}

// Statser is the optional power of a machine that can tell what it uses.
type Statser interface {
	Stats(ctx context.Context) (Stats, error)
}

// Helper is the optional power of an engine that starts its own executable
// again for a part of its work. RunHelper looks at os.Args and returns at once
// unless this process is such a helper; then it never returns.
type Helper interface {
	RunHelper()
}

// Stats is what a machine uses of the host.
type Stats struct {
	CPU         time.Duration // user and system time of the whole machine since its start
	Memory      int64         // bytes now
	MemoryLimit int64         // bytes
	OOMKills    int64         // processes the memory limit killed since the start
	PID         int           // host process that is the machine, for people
}

// Spec says what to boot. All paths are absolute. The engine reads it only
// during Start, but uses Dir and Disk for as long as the machine lives.
type Spec struct {
	ID       string // box id: [a-z0-9]+, at most 32 bytes, unique on this host
	Hostname string
	// Dir is a directory of mode 0700 that belongs to this machine alone
	// while it runs: sockets and such. It exists and is empty. The engine
	// leaves it empty.
	Dir string
	// Rootfs is the EROFS file of the image. It is opened read-only and shared.
	Rootfs string
	// Disk is the directory in which the engine keeps the writable layer
	// between runs. It exists; empty means a fresh layer. Its content is the
	// engine's own, and is kept by the caller as long as the box lives.
	Disk string
	// DiskSize is the most the writable layer may hold, in bytes. > 0.
	DiskSize int64
	// CPUs is how many processors the box may use and sees. > 0.
	CPUs int
	// Memory is the most the box may use, in bytes, as the box sees it. > 0.
	Memory int64
	// Reduced allows a machine without namespaces of its own, where the host
	// refuses them. It is an explicit choice of the user; never set it as a
	// fallback.
	Reduced bool
	// DropCapabilities are those of CommandCapabilities that no command of the
	// box has, whoever it runs as, nor gets by what it runs. With any of them
	// the agent is told to keep commands from user namespaces, where a process
	// has all capabilities over what it may map there. An engine whose boxes
	// are the host, such as the one of tests, ignores it.
	DropCapabilities []string
	// Volumes are directories and files of the host that the box sees. None
	// needs another; of two that overlap, the one with the longer Guest lies
	// on top.
	Volumes []Volume
	// NIC is the network of the box. Nil: it has the loopback device alone.
	NIC *NIC `json:"-"`
}

// NIC is a network device of a box, eth0 there, configured before the agent
// starts. An engine whose boxes use the host's network, such as the one of
// tests, ignores it.
type NIC struct {
	// Link is a unix datagram socket that carries one ethernet frame a
	// datagram. The engine duplicates what it needs during Start and never
	// closes it; the caller does, when Start has returned.
	Link  *os.File
	MTU   int // bytes of a frame without its ethernet header
	MAC   net.HardwareAddr
	Addrs []netip.Prefix // the box's, with the networks that are on the link
	// Gateways are the next hops to everywhere else, at most one a family.
	Gateways []netip.Addr
	// Resolvers are the DNS servers that the agent writes to /etc/resolv.conf.
	Resolvers []netip.Addr
}

// Unsupported says that an engine cannot work on this host, and what to do.
type Unsupported struct {
	Engine string // engine name
	Reason string // what the host lacks
	Fix    string // the one command or step that mends it
	Err    error  // cause, or nil
}

func (e *Unsupported) Error() string {
	s := e.Engine + ": " + e.Reason
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

func (e *Unsupported) Unwrap() error { return e.Err }

// ErrEnded is what Dial reports when the machine has ended or is ending.
var ErrEnded = errors.New("machine has ended")

// ErrOutOfMemory is why a machine ended when its memory limit killed it.
var ErrOutOfMemory = errors.New("out of memory")
