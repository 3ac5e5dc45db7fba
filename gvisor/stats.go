package gvisor

import (
	"context"
	"fmt"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
)

// Stats implements engine.Statser.
func (m *machine) Stats(context.Context) (engine.Stats, error) {
	select {
	case <-m.done:
		return engine.Stats{}, fmt.Errorf("stats: %w", engine.ErrEnded)
	default:
	}
	u := m.cgroup.Usage()
	s := engine.Stats{
		Memory:      u.Memory,
		MemoryLimit: m.spec.Memory,
		OOMKills:    u.OOMKills,
		PID:         m.proc.cmd.Process.Pid,
	}
	if u.HasCPU {
		s.CPU = u.CPU
	} else {
		for _, pid := range append(m.files.pids(), s.PID) {
			s.CPU += hostos.TreeCPU(pid)
		}
	}
	if u.Memory < 0 {
		var g gauge
		defer g.close()
		s.Memory, _ = g.read(s.PID) // 0 while it is not known
	}
	return s, nil
}

// Activity implements engine.DiskSaver. What a box does begins with a thread
// of its own, in a process below the sentry; what the sentry does of itself
// changes no file.
func (m *machine) Activity() uint64 { return hostos.Activity(m.proc.cmd.Process.Pid) }
