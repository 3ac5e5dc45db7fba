package gvisor_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// TestDeathDuringASave names the death and not the save as what went wrong.
func TestDeathDuringASave(t *testing.T) {
	testenv.NeedGVisor(t)
	m := start(t, spec(t))
	sh(t, m, "head -c 100000000 /dev/zero | tr '\\0' x >/root/f")
	saved, pid := make(chan error, 1), sentry(t, m)
	go func() { _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); saved <- err }()
	time.Sleep(20 * time.Millisecond) // into the save, or before it: the answer is the same
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-m.Done()
	if err := m.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err: got %v, want that it was killed", err)
	}
	<-saved // whatever it says: it may have been done
}

// TestNoSaveOutlivesItsMachine kills a machine while a save brings what it has
// written to the disk. Once the machine is over, another may begin with that
// disk: nobody else writes there.
func TestNoSaveOutlivesItsMachine(t *testing.T) {
	testenv.NeedGVisor(t)
	const size = 150_000_000
	s := spec(t)
	m := start(t, s)
	sh(t, m, "head -c "+strconv.Itoa(size)+" /dev/urandom >/root/f")
	saved, pid := make(chan error, 1), sentry(t, m)
	go func() { _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); saved <- err }()
	var written os.FileInfo
	for written == nil || written.Size() < size {
		time.Sleep(time.Millisecond) // until all is written, and not yet safe
		written, _ = os.Stat(filepath.Join(s.Disk, "segment-00000000"))
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-m.Done()
	before := disk(t, s.Disk)
	<-saved // whatever it says: it may have been done
	if after := disk(t, s.Disk); after != before {
		t.Errorf("disk when the save was over: got\n%s\nwant it as when the machine was:\n%s", after, before)
	}
	if _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); !errors.Is(err, engine.ErrEnded) {
		t.Errorf("save of a machine that is over: got %v, want %v", err, engine.ErrEnded)
	}
}

func TestCheck(t *testing.T) {
	testenv.NeedGVisor(t)
	if err := gvisor.New(gvisor.Options{CacheDir: t.TempDir()}).Check(t.Context()); err != nil {
		t.Errorf("Check: got %v, want nil", err)
	}
}

func TestStartRefusesBadSpecs(t *testing.T) {
	for name, spoil := range map[string]func(*engine.Spec){
		"id with a slash": func(s *engine.Spec) { s.ID = "../x" },
		"no id":           func(s *engine.Spec) { s.ID = "" },
		"relative path":   func(s *engine.Spec) { s.Disk = "disk" },
		"no memory":       func(s *engine.Spec) { s.Memory = 0 },
		"no processor":    func(s *engine.Spec) { s.CPUs = 0 },
		"no disk":         func(s *engine.Spec) { s.DiskSize = 0 },
	} {
		s := spec(t)
		spoil(&s)
		if _, err := gvisor.New(gvisor.Options{CacheDir: t.TempDir()}).Start(t.Context(), s); err == nil {
			t.Errorf("start with %s: got nil, want an error", name)
		}
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	testenv.NeedGVisor(t)
	noImage := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(noImage, make([]byte, 8192), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("changed my mind")
	cancel(cause)
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		rootfs string
		want   error // nil: any
	}{
		{"no image", t.Context(), filepath.Join(t.TempDir(), "none"), os.ErrNotExist},
		{"not an image", t.Context(), noImage, nil},
		{"ended context", ended, "", cause},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(t)
			if tt.rootfs != "" {
				s.Rootfs = tt.rootfs
			}
			_, err := gvisor.New(gvisor.Options{CacheDir: t.TempDir()}).Start(tt.ctx, s)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("Start: got %v, want %v", err, tt.want)
			}
			if got := append(names(t, s.Dir), names(t, s.Disk)...); len(got) != 0 {
				t.Errorf("after a failed start: got %q in the machine's directories, want nothing", got)
			}
		})
	}
}

func TestStopLeavesNothing(t *testing.T) {
	m, s := boot(t)
	sh(t, m, "setsid sleep 1000 >/dev/null 2>&1 &")
	pid := sentry(t, m)
	tree := append([]int{pid}, hostos.Descendants(pid)...)
	var all sync.WaitGroup
	for range 3 { // at the same time, and again
		all.Go(func() { stop(t, m) })
	}
	all.Wait()
	stop(t, m)
	for _, pid := range tree {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d of a stopped machine: got %v, want %v", pid, err, unix.ESRCH)
		}
	}
	if got := names(t, s.Dir); len(got) != 0 {
		t.Errorf("directory of a stopped machine: got %q, want nothing", got)
	}
	if _, err := m.Dial(t.Context()); err == nil {
		t.Error("Dial of a stopped machine: got nil, want an error")
	}
	if _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); err == nil {
		t.Error("SaveDisk of a stopped machine: got nil, want an error")
	}
	if _, err := m.(engine.Statser).Stats(t.Context()); err == nil {
		t.Error("Stats of a stopped machine: got nil, want an error")
	}
}

// Without namespaces the sentry still is nobody, filtered, and gone with all of
// its processes when it is killed.
func TestReducedMachine(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.Reduced = true
	m := start(t, s)
	if got, want := sh(t, m, "id -u; nproc"), "0\n1\n"; got != want {
		t.Errorf("command: got %q, want %q", got, want)
	}
	pid := sentry(t, m)
	if got := status(t, pid, "Uid"); strings.HasPrefix(got, "0 ") {
		t.Errorf("user of the sentry: got %q, want an ordinary one", got)
	}
	if got, want := status(t, pid, "Seccomp"), "2"; got != want {
		t.Errorf("Seccomp of the sentry: got %q, want %q", got, want)
	}
	tree := hostos.Descendants(pid)
	stop(t, m)
	deadline := time.Now().Add(5 * time.Second)
	for _, pid := range tree {
		for alive(strconv.Itoa(pid)) && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		if alive(strconv.Itoa(pid)) { // a zombie is init's to reap
			t.Errorf("process %d of a stopped machine lives on", pid)
		}
	}
}

func TestDeathIsNoticed(t *testing.T) {
	testenv.NeedGVisor(t)
	m := start(t, spec(t))
	p, err := guest.NewClient(m.Dial).Start(t.Context(), guest.Command{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := unix.Kill(sentry(t, m), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Copy(io.Discard, io.Discard); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("command of a killed machine: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	select {
	case <-m.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("Done is not closed 5 s after the sentry was killed")
	}
	if err := m.Err(); err == nil || !strings.Contains(err.Error(), "signal: killed") {
		t.Errorf("Err of a killed machine: got %v, want it to name the signal", err)
	}
}

func TestStreamsAreIndependent(t *testing.T) {
	testenv.NeedGVisor(t)
	m := start(t, spec(t))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := guest.NewClient(m.Dial).Ping(t.Context()); err != nil {
				t.Errorf("Ping: %v", err)
			}
		})
	}
	idle, err := m.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	all.Wait()
}

func TestMachinesStartAtOnce(t *testing.T) {
	testenv.NeedGVisor(t)
	e := gvisor.New(gvisor.Options{CacheDir: t.TempDir()})
	image := rootfs(t)
	var all sync.WaitGroup
	for range 8 {
		s := spec(t)
		s.Rootfs = image
		all.Go(func() {
			m, err := e.Start(t.Context(), s)
			if err != nil {
				t.Errorf("Start: %v", err)
				return
			}
			stop(t, m)
		})
	}
	all.Wait()
}
