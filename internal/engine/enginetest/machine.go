package enginetest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// guestID is a fresh name for a machine: several run at once.
func guestID(t testing.TB) string {
	var b [6]byte
	if _, err := rand.Read(b[:]); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b[:])
}

var machineCases = []testCase{
	{name: "CheckPasses", run: func(t *testing.T, j *judge) {
		if err := j.eng.Check(t.Context()); err != nil {
			t.Errorf("Check: got %v, want nil", err)
		}
	}},
	{name: "NameIsStable", run: func(t *testing.T, j *judge) {
		if n := j.eng.Name(); n == "" || n != strings.ToLower(n) || len(n) > 16 {
			t.Errorf("Name: got %q, want short and lower-case", n)
		}
	}},
	{name: "StartLeavesNothingWhenCancelled", run: testStartCancelled},
	{name: "StartLeavesNothingWhenItFails", run: testStartFails},
	{name: "StopIsIdempotent", run: testStop},
	{name: "StopIsOrderly", run: testStopOrderly},
	{name: "RestartKeepsFiles", run: testRestart},
	{name: "ManyStartAtOnce", run: testManyMachines},
	{name: "DiesWithItsStarter", run: testStarterKilled},
	on("PingTellsProtocol", func(t *testing.T, b *box) {
		h, err := b.Ping(t.Context())
		if err != nil || h.Proto != guest.Version || h.BootID == "" {
			t.Errorf("Ping: got %+v, %v, want protocol %d and a boot id", h, err, guest.Version)
		}
	}),
	on("StatsTell", func(t *testing.T, b *box) {
		s, ok := b.machine.(engine.Statser)
		if !ok {
			t.Skip("the machine has no Stats")
		}
		st, err := s.Stats(t.Context())
		if err != nil || st.PID <= 0 || st.Memory <= 0 || st.MemoryLimit < b.spec.Memory {
			t.Errorf("Stats: got %+v, %v, want a PID, memory, and a limit of %d or more", st, err, b.spec.Memory)
		}
	}),
	on("ManyStreamsAtOnce", func(t *testing.T, b *box) {
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				if _, err := b.Ping(t.Context()); err != nil {
					t.Errorf("Ping: %v", err)
				}
			})
		}
		wg.Wait()
	}),
	with(Memory, "BoxSeesItsMemory", func(t *testing.T, b *box) {
		got := b.output(t, `while read k v u; do case $k in MemTotal:) echo $v;; esac; done < /proc/meminfo`)
		if want := itoa(b.spec.Memory >> 10); got != want {
			t.Errorf("MemTotal: got %s kB, want %s", got, want)
		}
	}),
	with(CPUs, "BoxSeesItsCPUs", func(t *testing.T, b *box) {
		if got, want := b.output(t, "nproc"), itoa(int64(b.spec.CPUs)); got != want {
			t.Errorf("nproc: got %s, want %s", got, want)
		}
	}),
	{name: "DiskIsLimited", needs: DiskLimit, run: testDiskLimit},
	with(Isolation, "BoxHasItsOwnName", func(t *testing.T, b *box) {
		if got := b.output(t, "hostname"); got != b.spec.Hostname {
			t.Errorf("hostname: got %q, want %q", got, b.spec.Hostname)
		}
	}),
	with(Isolation, "AgentIsPID1", func(t *testing.T, b *box) {
		if got := b.output(t, "echo $PPID"); got != "1" {
			t.Errorf("parent of a command: got %s, want 1", got)
		}
	}),
	with(Isolation, "BoxSeesNoHostPath", func(t *testing.T, b *box) {
		mounts := b.output(t, "cat /proc/mounts; ls -la /proc/self/fd; cat /proc/1/environ; true")
		for _, host := range []string{b.spec.Dir, b.spec.Disk, "GOCACHE"} {
			if strings.Contains(mounts, host) {
				t.Errorf("the box sees %q of the host:\n%s", host, mounts)
			}
		}
	}),
}

func testStartCancelled(t *testing.T, j *judge) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := j.spec(t)
	m, err := j.eng.Start(ctx, s)
	if err == nil {
		m.Stop(context.Background())
		t.Fatal("Start with an ended context: got nil, want its cause")
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Start with an ended context: got %v, want context.Canceled", err)
	}
	j.wantEmptyDir(t, s)
}

func testStartFails(t *testing.T, j *judge) {
	s := j.spec(t)
	s.Disk += "/missing/\x00"
	m, err := j.eng.Start(t.Context(), s)
	if err == nil {
		m.Stop(context.Background())
		t.Fatal("Start without a disk: got nil, want an error")
	}
	j.wantEmptyDir(t, s)
}

func (j *judge) wantEmptyDir(t *testing.T, s engine.Spec) {
	t.Helper()
	if left := names(t, s.Dir); len(left) > 0 {
		t.Errorf("Spec.Dir after a failed Start: got %v, want nothing", left)
	}
}

func testStop(t *testing.T, j *judge) {
	b := j.start(t)
	p := b.begin(t, sh("sleep 1000"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			if err := b.machine.Stop(ctx); err != nil {
				t.Errorf("Stop: got %v, want nil", err)
			}
		})
	}
	wg.Wait()
	select {
	case <-b.machine.Done():
	default:
		t.Error("Done after Stop: still open")
	}
	if err := b.machine.Err(); err != nil {
		t.Errorf("Err after Stop: got %v, want nil", err)
	}
	if _, err := b.machine.Dial(t.Context()); err == nil {
		t.Error("Dial after Stop: got nil, want an error")
	}
	if x, err := p.Copy(nil, nil); err == nil && x.Code == 0 {
		t.Errorf("command in a box that was stopped: got %+v, want a failure or a broken stream", x)
	}
}

// testStopOrderly lets a command finish what it does.
func testStopOrderly(t *testing.T, j *judge) {
	b := j.start(t)
	p := b.begin(t, sh(`trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.05; done`))
	out := newWatch("ready")
	exit := make(chan guest.Exit, 1)
	go func() { // ends with the command
		x, err := p.Copy(out, nil)
		if err != nil {
			t.Errorf("Copy: %v", err)
		}
		exit <- x
	}()
	await(t, "the command is ready", out.seen)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.machine.Stop(ctx); err != nil {
		t.Errorf("Stop: got %v, want nil", err)
	}
	if x := await(t, "the exit", exit); x.Code != 3 || !strings.Contains(out.String(), "bye") {
		t.Errorf("command at Stop: got %+v, %q, want code 3 and bye", x, out.String())
	}
}

func testRestart(t *testing.T, j *judge) {
	s := j.spec(t)
	b := j.boot(t, s)
	b.output(t, "true")
	want := strings.Repeat("kept\n", 1000)
	b.write(t, "/var/keep/file", 0o640, want)
	b.write(t, "/tmp/file", 0o600, want)
	if d, ok := b.machine.(engine.DiskSaver); ok {
		if err := b.Shutdown(t.Context(), time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := d.SaveDisk(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.stop(t)
	b = j.boot(t, s)
	for _, name := range []string{"/var/keep/file", "/tmp/file"} {
		if got := b.read(t, name); got != want {
			t.Errorf("%s after a restart: got %d bytes, want %d", name, len(got), len(want))
		}
	}
	st, err := b.Stat(t.Context(), "/var/keep/file")
	if err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("mode after a restart: got %v, %v, want 0640", st.Mode(), err)
	}
}

func testManyMachines(t *testing.T, j *judge) {
	var wg sync.WaitGroup
	for range 4 {
		s := j.spec(t)
		wg.Go(func() {
			m, err := j.eng.Start(t.Context(), s)
			if err != nil {
				t.Errorf("Start: %v", err)
				return
			}
			if _, err := guest.NewClient(m.Dial).Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
			m.Stop(context.Background())
		})
	}
	wg.Wait()
}

func testDiskLimit(t *testing.T, j *judge) {
	s := j.spec(t)
	s.DiskSize = 32 << 20
	b := j.boot(t, s)
	r := b.run(t, sh("head -c 67108864 /dev/zero | tr '\\0' x > /var/big; echo $?; ls /var >/dev/null && echo alive"))
	if !strings.Contains(r.errs, "No space") || !strings.Contains(r.out, "alive") {
		t.Errorf("writing 64 MiB on a disk of 32: got %q, %q, want no space, and a box alive", r.out, r.errs)
	}
	if d, ok := b.machine.(engine.DiskSaver); ok {
		if _, err := d.SaveDisk(t.Context()); err != nil {
			t.Errorf("SaveDisk of a full disk: got %v, want nil", err)
		}
	}
}
