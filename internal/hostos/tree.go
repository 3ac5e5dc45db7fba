package hostos

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Descendants lists the processes below pid, parents first. Those that start
// or end meanwhile may be missing or gone.
func Descendants(pid int) []int {
	tree := []int{pid}
	for i := 0; i < len(tree); i++ { // grows as it goes
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", tree[i]))
		for _, f := range files {
			b, _ := os.ReadFile(f) // of a thread that may have just ended
			for _, child := range strings.Fields(string(b)) {
				// A child that moves while we look could be seen twice.
				if n, err := strconv.Atoi(child); err == nil && !slices.Contains(tree, n) {
					tree = append(tree, n)
				}
			}
		}
	}
	return tree[1:]
}

// Activity is a number that is another one when any thread of the processes
// below pid has run meanwhile, or the threads are others. It is 0 where the
// kernel does not keep account of that.
func Activity(pid int) uint64 {
	h := fnv.New64a()
	for _, child := range Descendants(pid) {
		// Per thread: time it ran in nanoseconds, time it waited, times it was
		// put on a processor.
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", child))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
				return 0
			}
			_, _ = h.Write(append([]byte(f), b...))
		}
		if len(files) == 0 {
			return 0
		}
	}
	return h.Sum64()
}

// TreeCPU is the processor time that pid, what is below it and what ended
// there have used.
func TreeCPU(pid int) time.Duration {
	used := processCPU(pid)
	for _, child := range Descendants(pid) {
		used += processCPU(child)
	}
	return used
}

// clockTick is the kernel's unit of times in /proc: the same wherever Linux
// shows them to programs.
const clockTick = 10 * time.Millisecond

func processCPU(pid int) time.Duration {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// The name, in parentheses, may hold anything; the fields after it are
	// numbered from 3. utime is 14, then stime, cutime, cstime.
	i := strings.LastIndexByte(string(b), ')')
	if i < 0 {
		return 0
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 15 {
		return 0
	}
	var ticks int64
	for _, v := range f[11:15] {
		n, _ := strconv.ParseInt(v, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}
