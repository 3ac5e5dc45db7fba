package agent

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// Config says how an agent serves. The zero value is PID 1 of a box.
type Config struct {
	// Control is the descriptor of the control socket.
	Control int
	// Root puts the paths of requests below a directory of the host, by
	// cleaning and joining. It is for tests alone: it confines nothing.
	Root string
	// Resolvers are the DNS servers of the box; none: those of its image.
	Resolvers []netip.Addr
	// NoUserNamespaces keeps commands from making any.
	NoUserNamespaces bool
	// Version is told to hosts.
	Version string
}

// Agent serves one box.
type Agent struct {
	root       string // Config.Root
	self       string // own executable
	switchUser bool
	confined   bool // Config.NoUserNamespaces
	hello      guest.Hello
	users      users
	reaper     *reaper
	groups     grouper
	table      *table
	streams    chan struct{} // a token for each stream being served
	stop       chan struct{} // closed when the host is gone
	named      chan struct{} // closed when the box has its name; commands wait for it
}

// maxStreams bounds what hosts make the agent keep at once.
const maxStreams = 4096

func newAgent(cfg Config) (*Agent, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the agent's own file: %w", err)
	}
	a := &Agent{
		root: cfg.Root, self: self, confined: cfg.NoUserNamespaces,
		hello:   guest.Hello{Proto: guest.Version, Agent: cfg.Version, BootID: randomID() + randomID()},
		reaper:  newReaper(),
		table:   newTable(),
		streams: make(chan struct{}, maxStreams),
		stop:    make(chan struct{}),
		named:   make(chan struct{}),
	}
	a.users = users{passwd: "/etc/passwd", group: "/etc/group"}
	if a.root == "" {
		a.switchUser = true
		a.groups, err = newCgroups(cgroupMount)
		return a, err
	}
	a.groups = &marks{boot: a.hello.BootID}
	return a, unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// path is where a path of the box is for the agent.
func (a *Agent) path(p string) string {
	if a.root == "" {
		return filepath.Clean(p)
	}
	return filepath.Join(a.root, filepath.Join("/", p))
}

// account resolves who a request is for. With Root there is but one user: the
// agent's own.
func (a *Agent) account(spec string) (*account, error) {
	if a.root == "" {
		return a.users.lookup(spec)
	}
	own := strconv.Itoa(os.Getuid())
	if spec == "" {
		spec = own
	}
	who, err := a.users.lookup(spec)
	if err != nil {
		return nil, err
	}
	if who.uid != uint32(os.Getuid()) {
		return nil, fail(guest.KindPermission, "user %q: this box has only user %s", spec, own)
	}
	return who, nil
}

// makeDirs makes a directory and its missing parents, all owned by who.
func (a *Agent) makeDirs(dir string, perm os.FileMode, who *account) error {
	fi, err := os.Stat(dir)
	if err == nil && fi.IsDir() {
		return nil
	}
	if err == nil {
		return fail(guest.KindNotDir, "%s is not a directory", dir)
	}
	if !os.IsNotExist(err) {
		return err
	}
	if parent := filepath.Dir(dir); parent != dir {
		if err := a.makeDirs(parent, perm, who); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !os.IsExist(err) {
		return err
	}
	return a.chown(dir, who)
}

// chown gives a file that was just made to who.
func (a *Agent) chown(path string, who *account) error {
	if !a.switchUser || (who.uid == 0 && who.gid == 0) {
		return nil
	}
	return os.Lchown(path, int(who.uid), int(who.gid))
}
