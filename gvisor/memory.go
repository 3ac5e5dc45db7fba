package gvisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

const (
	// sentryMemory is what a machine may use beyond what the box sees: the
	// sentry's own heap and stubs. Idle it takes 14 MB; what a guest makes it
	// hold (inodes, sockets, page tables) comes on top.
	sentryMemory = 64 << 20
	// maxHostProcesses is far out: a guest is bound by its own cgroup, and a
	// sentry that cannot clone ends.
	maxHostProcesses = 32 << 10
)

// A sentry that loads a tree holds the archive for good, and several times as
// much until its first collections of garbage: a box that could make its files
// must also be able to start with them. In turn no tree is saved that takes
// more than a third of what the box may use, or each start would allow more.
const treeMemory, treeShare = 4, 3

// memoryLimit is what the machine of s may use that starts with a tree of so
// many bytes.
func memoryLimit(s engine.Spec, tree int64) int64 {
	return s.Memory + sentryMemory + treeMemory*tree
}

// maxTree is the largest tree of s that is saved, in bytes: about 1 kB a file.
func maxTree(s engine.Spec) int64 { return memoryLimit(s, 0) / treeShare }

func hostLimits(s engine.Spec, tree int64) hostos.Limits {
	return hostos.Limits{Memory: memoryLimit(s, tree), CPUs: s.CPUs, Processes: maxHostProcesses}
}

// Who dies when the memory limit is reached is up to the kernel's scores.
// Killing the sentry or the agent ends the box, killing a process of a command
// may save it. The guest's processes are forked from a child of the sentry and
// inherit what that child has when they are. Whatever is not permitted is left
// as it is: then they are candidates like any.
const (
	scoreCommand = "900"
	scoreAgent   = "0"    // anybody may go back to what was
	scoreSentry  = "-900" // takes CAP_SYS_RESOURCE
)

// offerCommands prepares those from which all processes are forked.
func offerCommands(there []int) {
	for _, pid := range there {
		_ = setOOMScore(pid, scoreCommand)
	}
}

// spareAgent takes the agent, alone in the box but for those who were there,
// from the candidates.
func (m *machine) spareAgent(there []int) {
	pid := m.proc.cmd.Process.Pid
	for _, p := range append(m.files.pids(), pid) {
		_ = setOOMScore(p, scoreSentry)
	}
	for _, child := range hostos.Descendants(pid) {
		if slices.Contains(there, child) {
			continue
		}
		_ = setOOMScore(child, scoreAgent)
		_ = setOOMScore(child, scoreSentry)
	}
}

func setOOMScore(pid int, score string) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(score), 0)
}

const (
	// Where the kernel enforces the limit, we look only for what it killed, and
	// when the machine ends look once more: so far back a kill explains its end.
	slowPoll = 5 * time.Second
	// Where it does not, the next look is due when a fast guest, at
	// fillRate, could have used up what is left, within these bounds.
	minPoll, maxPoll = 20 * time.Millisecond, 250 * time.Millisecond
	fillRate         = 4 << 30 // bytes a second
)

// watchMemory ends when the sentry has.
func (m *machine) watchMemory() {
	if m.cgroup.Memory() {
		m.watchKills()
		return
	}
	limit := memoryLimit(m.spec, m.layer.began)
	var g gauge
	defer g.close()
	timer := time.NewTimer(maxPoll)
	defer timer.Stop()
	for {
		select {
		case <-m.proc.exited:
			return
		case <-timer.C:
		}
		used, ok := g.read(m.proc.cmd.Process.Pid)
		if ok && used > limit {
			m.fail(engine.ErrOutOfMemory)
			return
		}
		left := time.Duration(max(0, limit-used)) * time.Second / fillRate
		timer.Reset(min(max(left, minPoll), maxPoll))
	}
}

// watchKills remembers when the kernel last killed something.
func (m *machine) watchKills() {
	ticker := time.NewTicker(slowPoll)
	defer ticker.Stop()
	for {
		select {
		case <-m.proc.exited:
			return
		case <-ticker.C:
			m.countKills()
		}
	}
}

// countKills reports whether the kernel killed something lately.
func (m *machine) countKills() (recent bool) {
	n := m.cgroup.OOMKills()
	m.mu.Lock()
	defer m.mu.Unlock()
	if n > m.kills {
		m.kills, m.killed = n, time.Now()
	}
	return n > 0 && time.Since(m.killed) < slowPoll
}

// oomKilled tells whether the memory limit is what ended the sentry: by its
// own death or by that of a process it cannot be without.
func (m *machine) oomKilled() bool { return m.cgroup.Memory() && m.countKills() }

// gauge measures a sentry's memory from outside: the size of the file that
// holds all of its guest's memory, and its own heap. A look costs 5 µs.
type gauge struct {
	mem, statm *os.File
}

func (g *gauge) close() {
	g.mem.Close()
	g.statm.Close()
}

// read returns bytes, and false while they cannot be known.
func (g *gauge) read(pid int) (int64, bool) {
	if g.mem == nil {
		g.mem = openMemory(pid)
	}
	if g.statm == nil {
		g.statm, _ = os.Open(fmt.Sprintf("/proc/%d/statm", pid))
	}
	if g.mem == nil || g.statm == nil {
		return 0, false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(g.mem.Fd()), &st); err != nil {
		return 0, false
	}
	own, err := privateMemory(g.statm)
	return st.Blocks*512 + own, err == nil
}

// privateMemory reads resident minus shared memory from a statm file.
func privateMemory(statm *os.File) (int64, error) {
	var buf [128]byte
	n, err := statm.ReadAt(buf[:], 0)
	if n == 0 {
		return 0, err
	}
	f := strings.Fields(string(buf[:n]))
	if len(f) < 3 {
		return 0, fmt.Errorf("statm: unknown format %q", buf[:n])
	}
	resident, err1 := strconv.ParseInt(f[1], 10, 64)
	shared, err2 := strconv.ParseInt(f[2], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("statm: unknown format %q", buf[:n])
	}
	return max(0, resident-shared) * int64(os.Getpagesize()), nil
}

// openMemory finds the memory file of the sentry pid among its descriptors.
// The handle is only good for asking its size.
func openMemory(pid int) *os.File {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(path); err != nil || !strings.HasPrefix(to, "/memfd:runsc-memory") {
			continue
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		return os.NewFile(uintptr(fd), "memory")
	}
	return nil
}
