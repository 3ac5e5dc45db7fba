package hostos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a machine on the host. Zero means no limit.
type Limits struct {
	Memory    int64 // bytes
	CPUs      int   // processors' worth of time
	Processes int64 // processes and threads
}

// Cgroup is the place of one machine in the host's control groups, as far as
// we may make one: anything from nothing to memory, processor and process
// limits. Of an ordinary user without delegation it is empty, and [Cgroup.Memory]
// says so. It is safe for concurrent use.
type Cgroup struct {
	limits Limits
	dirs   []cgroupDir
}

// cgroupDir is a cgroup made for one hierarchy.
type cgroupDir struct {
	hierarchy
	path string // of the cgroup made
}

// cgroupPrefix marks what is ours, with the id of the box, so that what a
// crash left behind can be found.
const cgroupPrefix = "boxlite-"

// wanted are the controllers we use.
var wanted = []string{"memory", "cpu", "cpuacct", "pids"}

// NewCgroup makes a cgroup for the machine of the box id in each hierarchy
// where this process may make one. Being allowed none is not an error. The
// caller removes it.
func NewCgroup(id string, l Limits) (*Cgroup, error) {
	hs, err := hierarchies("/proc/self/cgroup", "/proc/self/mountinfo")
	if err != nil {
		return &Cgroup{limits: l}, nil // no /proc: no cgroups
	}
	return newCgroup(hs, cgroupPrefix+id, l)
}

func newCgroup(hs []hierarchy, name string, l Limits) (*Cgroup, error) {
	c := &Cgroup{limits: l}
	for _, h := range hs {
		parent := h.parent()
		if parent == "" {
			continue
		}
		dir := cgroupDir{h, filepath.Join(parent, name)}
		// One of a crashed run may be there: with the id in our hands, it is
		// nobody else's.
		if err := os.Mkdir(dir.path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			continue // not ours to make
		}
		if err := dir.set(l); err != nil {
			_ = dir.remove()
			if denied(err) {
				continue
			}
			_ = c.Remove()
			return nil, err
		}
		c.dirs = append(c.dirs, dir)
	}
	return c, nil
}

// denied tells whether err means that a limit is not ours to set.
func denied(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EROFS)
}

// set writes the limits that d's controllers know.
func (d cgroupDir) set(l Limits) error {
	put := func(file, value string) error {
		if err := os.WriteFile(filepath.Join(d.path, file), []byte(value), 0); err != nil {
			return fmt.Errorf("set limit: %w", err)
		}
		return nil
	}
	if d.has("memory") && l.Memory > 0 {
		if err := d.setMemory(put, strconv.FormatInt(l.Memory, 10)); err != nil {
			return err
		}
	}
	if d.has("pids") && l.Processes > 0 {
		if err := put("pids.max", strconv.FormatInt(l.Processes, 10)); err != nil {
			return err
		}
	}
	if !d.has("cpu") || l.CPUs <= 0 || l.CPUs >= runtime.NumCPU() {
		return nil
	}
	const period = 100_000 // microseconds; the kernel's default
	if d.unified {
		return put("cpu.max", fmt.Sprintf("%d %d", l.CPUs*period, period))
	}
	return errors.Join(
		put("cpu.cfs_period_us", strconv.Itoa(period)),
		put("cpu.cfs_quota_us", strconv.Itoa(l.CPUs*period)))
}

func (d cgroupDir) setMemory(put func(file, value string) error, bytes string) error {
	if d.unified {
		// Without swap accounting there is no such file, and no swap to deny.
		if err := put("memory.swap.max", "0"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return put("memory.max", bytes)
	}
	if err := put("memory.limit_in_bytes", bytes); err != nil {
		return err
	}
	if err := put("memory.memsw.limit_in_bytes", bytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Around calls start so that the process it starts with attr is born in c,
// where the kernel can do that (cgroup v2). The caller has locked itself to its
// thread. Where no processor quota could be set, the process is confined to as
// many processors instead. [Cgroup.Enter] does what remains.
func (c *Cgroup) Around(attr *syscall.SysProcAttr, start func() error) error {
	for _, d := range c.dirs {
		if !d.unified {
			continue
		}
		f, err := os.Open(d.path)
		if err != nil {
			return err
		}
		defer f.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
	}
	if c.has("cpu") {
		return start()
	}
	return withAffinity(c.limits.CPUs, start)
}

// Enter moves processes into c that [Cgroup.Around] could not start there. On a
// kernel that has not moved any for a while it takes 15 ms, so it is best done
// beside something else. A process that has ended is no error.
func (c *Cgroup) Enter(pids ...int) error {
	for _, d := range c.dirs {
		if d.unified {
			continue
		}
		for _, pid := range pids {
			err := os.WriteFile(filepath.Join(d.path, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
			if err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("enter cgroup: %w", err)
			}
		}
	}
	return nil
}

// withAffinity calls start with the calling thread on n of its processors,
// chosen at random for want of a scheduler to ask.
func withAffinity(n int, start func() error) error {
	var all, some unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || n <= 0 || n >= all.Count() {
		return start()
	}
	skip := int(time.Now().UnixNano() % int64(all.Count()))
	for i, seen := 0, 0; some.Count() < n; i = (i + 1) % (len(all) * 64) {
		if !all.IsSet(i) {
			continue
		}
		if seen >= skip {
			some.Set(i)
		}
		seen++
	}
	if err := unix.SchedSetaffinity(0, &some); err != nil {
		return start() // a host that forbids it; the box is merely not bounded
	}
	defer unix.SchedSetaffinity(0, &all) //nolint:errcheck // it was so a moment ago
	return start()
}

func (c *Cgroup) has(controller string) bool {
	for _, d := range c.dirs {
		if d.has(controller) {
			return true
		}
	}
	return false
}

// Memory tells whether the memory limit is enforced by the kernel.
func (c *Cgroup) Memory() bool { return c.has("memory") }

// Usage is what the processes of a cgroup use.
type Usage struct {
	Memory   int64 // bytes, without the page cache that can be had back at once; -1: not known
	OOMKills int64 // processes that the memory limit has killed
	CPU      time.Duration
	HasCPU   bool // CPU is known
}

// Usage reads what the kernel counts. Unknown parts are left out.
func (c *Cgroup) Usage() Usage {
	u := Usage{Memory: -1}
	for _, d := range c.dirs {
		if d.has("memory") {
			u.Memory = d.memory()
			u.OOMKills = d.oomKills()
		}
		if ns, ok := d.cpu(); ok {
			u.CPU, u.HasCPU = ns, true
		}
	}
	return u
}

// OOMKills is how many processes the memory limit has killed.
func (c *Cgroup) OOMKills() int64 {
	for _, d := range c.dirs {
		if d.has("memory") {
			return d.oomKills()
		}
	}
	return 0
}

func (d cgroupDir) memory() int64 {
	current, stat, key := "memory.usage_in_bytes", "memory.stat", "total_inactive_file"
	if d.unified {
		current, key = "memory.current", "inactive_file"
	}
	n, ok := readInt(filepath.Join(d.path, current))
	if !ok {
		return -1
	}
	return max(0, n-readKey(filepath.Join(d.path, stat), key))
}

func (d cgroupDir) oomKills() int64 {
	file := "memory.oom_control"
	if d.unified {
		file = "memory.events"
	}
	return readKey(filepath.Join(d.path, file), "oom_kill")
}

func (d cgroupDir) cpu() (time.Duration, bool) {
	if d.unified {
		us := readKey(filepath.Join(d.path, "cpu.stat"), "usage_usec")
		return time.Duration(us) * time.Microsecond, us > 0
	}
	if !d.has("cpuacct") {
		return 0, false
	}
	ns, ok := readInt(filepath.Join(d.path, "cpuacct.usage"))
	return time.Duration(ns), ok
}

func readInt(path string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// readKey reads a line "key number"; 0 where there is none.
func readKey(path, key string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// Remove kills what is left in c and removes it. It is idempotent.
func (c *Cgroup) Remove() error {
	var errs []error
	for _, d := range c.dirs {
		errs = append(errs, d.remove())
	}
	return errors.Join(errs...)
}

// removeTimeout is how long the processes of a cgroup may take to vanish after
// SIGKILL. A large address space takes a second to tear down.
const removeTimeout = 5 * time.Second

func (d cgroupDir) remove() error {
	for deadline := time.Now().Add(removeTimeout); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Rmdir(d.path)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT):
			return nil
		case !errors.Is(err, unix.EBUSY), time.Now().After(deadline):
			return fmt.Errorf("remove cgroup %s: %w", d.path, err)
		}
		d.kill()
	}
}

// kill kills every process in the cgroup.
func (d cgroupDir) kill() {
	if d.unified && os.WriteFile(filepath.Join(d.path, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	b, _ := os.ReadFile(filepath.Join(d.path, "cgroup.procs"))
	for line := range strings.Lines(string(b)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 1 && pid != os.Getpid() {
			_ = unix.Kill(pid, unix.SIGKILL) // may just have ended
		}
	}
}
