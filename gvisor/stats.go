package gvisor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
)

// Stats implements engine.Statser.
func (m *machine) Stats(context.Context) (engine.Stats, error) {
	select {
	case <-m.done:
		return engine.Stats{}, fmt.Errorf("stats: %w", errEnded)
	default:
	}
	u := m.cgroup.Usage()
	s := engine.Stats{
		CPU:         u.CPU,
		Memory:      u.Memory,
		MemoryLimit: m.spec.Memory + sentryMemory,
		OOMKills:    u.OOMKills,
		PID:         m.proc.cmd.Process.Pid,
	}
	if !u.HasCPU {
		s.CPU = treeCPU(s.PID)
	}
	if u.Memory < 0 {
		var g gauge
		defer g.close()
		s.Memory, _ = g.read(s.PID) // 0 while it is not known
	}
	return s, nil
}

// clockTick is the kernel's unit of times in /proc, the same on all of Linux
// that a program can see.
const clockTick = 10 * time.Millisecond

// treeCPU sums what pid and all below it have used, ended children included.
func treeCPU(pid int) time.Duration {
	used := processCPU(pid)
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f) // a thread that has just ended
		for _, child := range strings.Fields(string(b)) {
			if n, err := strconv.Atoi(child); err == nil {
				used += treeCPU(n)
			}
		}
	}
	return used
}

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
