package boxtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Left is everything boxes of this process may leave on the host: processes of
// its executable, mounts, cgroups, sockets, temporary files, descriptors.
type Left map[string]bool

// Leftovers takes stock. Files of other programs are not counted, so that
// tests may run side by side.
func Leftovers() Left {
	l := Left{}
	for _, pid := range Family() {
		l[fmt.Sprintf("process %d %s", pid, CommandLine(pid))] = true
	}
	l.descriptors()
	l.lines("mount", "/proc/self/mountinfo")
	l.cgroups()
	entries, _ := os.ReadDir(os.TempDir())
	for _, e := range entries {
		if owned(e.Name()) {
			l["temporary file "+e.Name()] = true
		}
	}
	return l
}

func (l Left) lines(what, path string) {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		l[what+" "+strings.TrimSpace(line)] = true
	}
}

// cgroups adds those without processes. The others are in use: by us, which the
// processes say, or by other tests.
func (l Left) cgroups() {
	// What vanishes while we look is no leftover.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || !strings.HasPrefix(d.Name(), "boxlite-") {
			return nil
		}
		if b, err := os.ReadFile(path + "/cgroup.procs"); err == nil && len(b) == 0 {
			l["cgroup "+path] = true
		}
		return fs.SkipDir
	})
}

func (l Left) descriptors() {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		// Those of the poller and of this very look come and go.
		to, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && !strings.HasPrefix(to, "anon_inode:") {
			l["descriptor "+fd.Name()+" "+to] = true
		}
	}
}

// Diff tells what is more than before, a line each.
func (l Left) Diff(before Left) string {
	more := map[string]bool{}
	for line := range l {
		if !before[line] {
			more[line] = true
		}
	}
	if len(more) == 0 {
		return ""
	}
	return strings.Join(sorted(more), "\n") + "\n"
}

// Await gives what is ending some time to be gone, and returns what is there
// and was not before.
func (l Left) Await(limit time.Duration) (diff string) {
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		diff = Leftovers().Diff(l)
		if diff == "" || time.Now().After(deadline) {
			return diff
		}
	}
}

// Family lists the processes that run this process's executable, except this
// one: owners of boxes, machines and what is in them, whoever their parent is.
func Family() []int { return ProcessesOf("/proc/self/exe") }

// ProcessesOf lists the processes, except this one, of an executable.
func ProcessesOf(path string) (pids []int) {
	exe, err := os.Stat(path)
	if err != nil {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == os.Getpid() {
			continue
		}
		if st, err := os.Stat(dir + "/exe"); err == nil && os.SameFile(exe, st) && !zombie(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Alive tells whether a process exists and has not ended.
func Alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil && !zombie(pid)
}

func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(after, "Z")
}

// Children lists the processes that pid started and that live.
func Children(pid int) (pids []int) {
	for _, child := range hostos.Descendants(pid) {
		if parent(child) == pid {
			pids = append(pids, child)
		}
	}
	return pids
}

func parent(pid int) int {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(after)
	if len(f) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(f[1])
	return n
}

// CommandLine is that of a process, with spaces between its arguments.
func CommandLine(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}
