package gvisor_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// A guest that wants more memory than it may have loses the process that wants
// it, or its machine; never does the host lose it.
func TestMemoryLimitHolds(t *testing.T) {
	testenv.NeedGVisor(t)
	for name, script := range map[string]string{
		"of a process, filled by the kernel": "tail -c 1000000000 /dev/zero",
		"of a process, filled by itself":     "yes | tr y x | sort",
		"of /dev/shm":                        "cd /dev/shm; for i in 1 2 3; do mkdir $i; mount -t tmpfs -o size=1g t $i; dd if=/dev/zero of=$i/f bs=1M count=900; done",
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t)
			s.Memory = 64 << 20
			m := start(t, s)
			p, err := guest.NewClient(m.Dial).Start(t.Context(), guest.Command{Args: []string{"sh", "-c", script}})
			var exit guest.Exit
			if err == nil { // it may be over before it has said that it began
				defer p.Close()
				exit, err = p.Copy(io.Discard, io.Discard)
			}
			if err == nil {
				if exit.Code == 0 {
					t.Errorf("command: got exit code 0 with more memory than the limit, want it killed")
				}
				return
			}
			select {
			case <-m.Done():
			case <-time.After(10 * time.Second):
				t.Fatalf("stream broke (%v), but the machine runs on", err)
			}
			if got := m.Err(); !errors.Is(got, engine.ErrOutOfMemory) {
				t.Errorf("Err: got %v, want %v", got, engine.ErrOutOfMemory)
			}
		})
	}
}

func TestStatsCount(t *testing.T) {
	m, s := boot(t)
	before, err := m.(engine.Statser).Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sh(t, m, "dd if=/dev/zero of=/dev/shm/f bs=1M count=64 2>/dev/null; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")
	after, err := m.(engine.Statser).Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := after.Memory-before.Memory, int64(60<<20); got < want {
		t.Errorf("memory of 64 MiB in /dev/shm: got %d more bytes, want at least %d", got, want)
	}
	if got, want := after.CPU-before.CPU, 20*time.Millisecond; got < want {
		t.Errorf("processor time of a busy loop: got %v more, want at least %v", got, want)
	}
	if after.MemoryLimit < s.Memory || after.PID == 0 {
		t.Errorf("stats: got limit %d and pid %d, want at least %d and not 0", after.MemoryLimit, after.PID, s.Memory)
	}
}
