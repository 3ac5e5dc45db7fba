package agent

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A grouper makes groups and signals all processes but the agent.
type grouper interface {
	// group makes an empty group; processes 0 means no bound.
	group(id string, processes uint64) (group, error)
	// signalAll sends sig to every process in the box but the agent.
	signalAll(sig syscall.Signal)
}

// A group holds one command and all it starts, whatever they do to leave it.
type group interface {
	// attach makes a process that is started with attr a member from its
	// first instruction.
	attach(attr *syscall.ProcAttr)
	// started is called once the start has been tried.
	started()
	// kill ends every member.
	kill() error
	// remove frees the group. It reports whether it could: members may be left.
	remove() bool
}

// cgroups groups by cgroup v2, which nothing leaves that has no way to its
// files.
type cgroups struct {
	dir string // parent of the groups
}

// maxProcesses is how many processes and threads all commands of a box may have
// together. Each is a thread of the host too, of which a host may have as few
// as 32768. gVisor kills a process that gets more than 4095 threads; with fewer
// in the whole box it is told that it has too many.
const maxProcesses = 4000

const cgroupMount = "/sys/fs/cgroup"

// hideCgroups takes the file system at mount away from the box, where root
// could write a process out of its group and so out of its limits, and returns
// a path that only this process can use. The box gets one it can only read.
func hideCgroups(mount string) (string, error) {
	fd, err := unix.Open(mount, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("cgroup: %w", err)
	}
	if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
		return "", fmt.Errorf("hide cgroups: %w", err)
	}
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("cgroup", mount, "cgroup2", flags, ""); err != nil {
		return "", fmt.Errorf("show cgroups: %w", err)
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), nil
}

// newCgroups puts the agent in a leaf of its own, since a cgroup that has
// controllers for its children may hold no process itself.
func newCgroups(mount string) (*cgroups, error) {
	mount, err := hideCgroups(mount)
	if err != nil {
		return nil, err
	}
	leaf, dir := filepath.Join(mount, "agent"), filepath.Join(mount, "box")
	for _, d := range []string{leaf, dir} {
		if err := os.Mkdir(d, 0o755); err != nil && !os.IsExist(err) {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	for _, f := range []struct{ name, value string }{
		{leaf + "/cgroup.procs", "0"},
		{leaf + "/cgroup.max.depth", "0"}, // the box may see it, and make nothing in it
		{dir + "/cgroup.max.depth", "1"},
		{mount + "/cgroup.subtree_control", "+pids"},
		{dir + "/pids.max", strconv.Itoa(maxProcesses)},
		{dir + "/cgroup.subtree_control", "+pids"},
	} {
		if err := writeFile(f.name, f.value); err != nil {
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	return &cgroups{dir: dir}, nil
}

// writeFile writes to a file of the kernel's, in one write.
func writeFile(path, s string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(s)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

func (c *cgroups) group(id string, processes uint64) (group, error) {
	g := &cgroup{dir: filepath.Join(c.dir, id)}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	if processes > 0 {
		if err := writeFile(filepath.Join(g.dir, "pids.max"), strconv.FormatUint(processes, 10)); err != nil {
			g.remove()
			return nil, fmt.Errorf("limit processes: %w", err)
		}
	}
	fd, err := syscall.Open(g.dir, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		g.remove()
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	g.fd = fd
	return g, nil
}

func (c *cgroups) signalAll(sig syscall.Signal) { syscall.Kill(-1, sig) }

type cgroup struct {
	dir string
	fd  int
}

// attach also gives the process a cgroup namespace whose root is the agent's
// group. There its own group is not reachable, nor may anything move across
// that root: root in the box may mount the cgroup file system again, in a user
// namespace, and find nothing there to loosen.
func (g *cgroup) attach(attr *syscall.ProcAttr) {
	attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, g.fd
	attr.Sys.Cloneflags |= unix.CLONE_NEWCGROUP
}

func (g *cgroup) started() { syscall.Close(g.fd) }

func (g *cgroup) kill() error {
	err := writeFile(filepath.Join(g.dir, "cgroup.kill"), "1")
	if os.IsNotExist(err) {
		return nil // all gone, and the group with them
	}
	return err
}

func (g *cgroup) remove() bool {
	err := os.Remove(g.dir)
	return err == nil || os.IsNotExist(err)
}

// marks groups without cgroups: every process of a group carries a mark in
// its environment, or descends from one that does. A process that clears its
// environment after its parent died escapes, so this is for tests alone.
type marks struct{ boot string }

const markName = "BOXLITE_EXECUTION="

func (m *marks) group(id string, _ uint64) (group, error) {
	return &mark{text: []byte(markName + m.boot + "." + id)}, nil
}

func (m *marks) signalAll(sig syscall.Signal) {
	for pid := range descendants(os.Getpid()) {
		syscall.Kill(pid, sig)
	}
}

type mark struct{ text []byte }

func (g *mark) attach(attr *syscall.ProcAttr) {
	attr.Env = append(attr.Env[:len(attr.Env):len(attr.Env)], string(g.text))
	attr.Sys.Pdeathsig = syscall.SIGKILL
}

func (g *mark) started()     {}
func (g *mark) remove() bool { return true }

// kill walks until it finds none that it has not signalled: a member may fork
// while it looks.
func (g *mark) kill() error {
	sent := make(map[int]bool)
	for range 1000 {
		found := false
		all := descendants(os.Getpid())
		for pid := range all {
			if !sent[pid] && g.holds(pid, all) {
				found, sent[pid] = true, true
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !found {
			return nil
		}
	}
	return errors.New("processes keep appearing in the execution")
}

// holds reports whether pid or an ancestor below the agent carries the mark.
func (g *mark) holds(pid int, parents map[int]int) bool {
	for range len(parents) + 1 {
		env, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		for e := range bytes.SplitSeq(env, []byte{0}) {
			if bytes.Equal(e, g.text) {
				return true
			}
		}
		parent, ok := parents[pid]
		if !ok {
			return false
		}
		pid = parent
	}
	return false
}

// descendants maps each living descendant of root to its parent.
func descendants(root int) map[int]int {
	parents := make(map[int]int)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state ppid ...: the name may hold anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		if ppid, err := strconv.Atoi(fields[1]); err == nil {
			parents[pid] = ppid
		}
	}
	for pid := range parents {
		if !under(pid, root, parents) {
			delete(parents, pid)
		}
	}
	return parents
}

func under(pid, root int, parents map[int]int) bool {
	for range len(parents) + 1 {
		parent, ok := parents[pid]
		if !ok {
			return false
		}
		if parent == root {
			return true
		}
		pid = parent
	}
	return false
}
