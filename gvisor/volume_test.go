package gvisor_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// volume is a directory of the host with one file, to be mounted at /v.
func volume(tb testing.TB) engine.Volume {
	tb.Helper()
	dir, err := filepath.EvalSymlinks(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return engine.Volume{Host: dir, Guest: "/v"}
}

// gofers lists the gofers below this process.
func gofers() (pids []int) {
	for _, pid := range hostos.Descendants(os.Getpid()) {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.HasPrefix(string(b), "boxlite-gofer\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestOnlyBoxesWithVolumesHaveAGofer(t *testing.T) {
	testenv.NeedGVisor(t)
	start(t, spec(t))
	if got := gofers(); len(got) != 0 {
		t.Errorf("gofers of a box without volumes: got %v, want none", got)
	}
	s := spec(t)
	s.Volumes = []engine.Volume{volume(t), {Host: volume(t).Host, Guest: "/w"}}
	m := start(t, s)
	if got := gofers(); len(got) != 1 {
		t.Errorf("gofers of a box with two volumes: got %v, want one", got)
	}
	stop(t, m)
	if got := gofers(); len(got) != 0 {
		t.Errorf("gofers of a stopped box: got %v, want none", got)
	}
}

func TestGoferIsJailed(t *testing.T) {
	testenv.NeedGVisor(t)
	// A descriptor that somebody forgot to mark close-on-exec.
	stray, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stray)
	t.Setenv("STRAY", "secret")
	s := spec(t)
	v := volume(t)
	s.Volumes = []engine.Volume{v}
	m := start(t, s)
	sh(t, m, "cat /v/f")
	pid := gofers()[0]

	confined(t, pid, os.Geteuid(), 1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_FOWNER)
	ownNamespaces(t, pid)
	if got, want := names(t, fmt.Sprintf("/proc/%d/root", pid)), []string{"0"}; !slices.Equal(got, want) {
		t.Errorf("root of the gofer: got %q, want the volume alone", got)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if lines := strings.Count(string(mounts), "\n"); err != nil || lines != 2 {
		t.Errorf("mounts of the gofer: got %d, %v, want its root and the volume:\n%s", lines, err, mounts)
	}
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if got, want := strings.TrimRight(string(env), "\x00"), "GODEBUG=containermaxprocs=0"; err != nil || got != want {
		t.Errorf("environment of the gofer: got %q, want %q (%v)", got, want, err)
	}
	expected := []string{os.DevNull, "anon_inode:", "pipe:", "socket:", "/memfd:", "/0"}
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	for _, fd := range names(t, dir) {
		to, err := os.Readlink(dir + fd)
		if err != nil || slices.ContainsFunc(expected, func(p string) bool { return strings.HasPrefix(to, p) }) {
			continue
		}
		// Its own descriptors, as a mount of their own, from which nothing
		// leads up.
		here, err1 := os.Stat(dir + fd + "/.")
		up, err2 := os.Stat(dir + fd + "/../..")
		its, err3 := os.Stat(dir)
		if err := errors.Join(err1, err2, err3); err != nil || !os.SameFile(here, up) || !os.SameFile(here, its) {
			t.Errorf("the gofer has %s open (%v)", to, err)
		}
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || strings.Contains(string(cmdline), v.Host) {
		t.Errorf("command line of the gofer: got %q, %v, want no path of the user's", cmdline, err)
	}
}

// A box whose volumes are gone must not go on as if they were there.
func TestBoxEndsWithItsGofer(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.Volumes = []engine.Volume{volume(t)}
	m := start(t, s)
	if err := unix.Kill(gofers()[0], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the machine runs on, 5 s after its gofer was killed")
	}
	if err := m.Err(); err == nil || !strings.Contains(err.Error(), "volumes") {
		t.Errorf("Err: got %v, want it to name the volumes", err)
	}
}

// What has ended is named: with its sentry a gofer ends, and often first.
func TestDeathOfTheSentryIsNotTheGofers(t *testing.T) {
	testenv.NeedGVisor(t)
	for range 5 {
		s := spec(t)
		s.Volumes = []engine.Volume{volume(t)}
		m := start(t, s)
		if err := unix.Kill(sentry(t, m), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-m.Done()
		if err := m.Err(); err == nil || !strings.Contains(err.Error(), "sentry ended: signal: killed") {
			t.Errorf("Err of a machine whose sentry was killed: got %v, want that it was", err)
		}
	}
}

// A path that is swapped while the box starts is not followed.
func TestSwappedHostPathIsRefused(t *testing.T) {
	testenv.NeedGVisor(t)
	v := volume(t)
	other := volume(t)
	path := filepath.Join(v.Host, "path")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan struct{})
	swapping := make(chan struct{})
	go func() { // ends with the test; awaited below
		defer close(swapping)
		for {
			select {
			case <-stopped:
				return
			default:
			}
			_ = os.Rename(path, path+".aside")
			_ = os.Symlink(other.Host, path)
			_ = os.Remove(path)
			_ = os.Rename(path+".aside", path)
		}
	}()
	defer func() { close(stopped); <-swapping }()
	e := newEngine(t)
	for range 20 {
		s := spec(t)
		s.Volumes = []engine.Volume{{Host: path, Guest: "/v"}}
		m, err := e.Start(t.Context(), s)
		if err != nil {
			continue // refused
		}
		if got := sh(t, m, "ls /v"); got != "" {
			t.Errorf("volume whose path is swapped: got %q, want the empty directory or an error", got)
		}
		stop(t, m)
	}
}

// What a box left in its layer decides where its volumes go the next time. It
// must not lay them over what the box is held by.
func TestVolumeCannotCoverTheAgent(t *testing.T) {
	testenv.NeedGVisor(t)
	for _, target := range []string{"/.boxlite", "/proc", "/sys/fs/cgroup", "/dev"} {
		s := spec(t)
		m := start(t, s)
		sh(t, m, "mkdir /d; ln -s "+target+" /d/link")
		if _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); err != nil {
			t.Fatal(err)
		}
		stop(t, m)
		v := volume(t)
		v.Guest = "/d/link"
		s.Volumes = []engine.Volume{v}
		m, err := newEngine(t).Start(t.Context(), s)
		if err != nil {
			continue // refused
		}
		if out, code := run(t, m, "cat", target+"/f"); code == 0 {
			t.Errorf("%s with a volume laid over it: got %q, want the box's own", target, out)
		}
		stop(t, m)
	}
}

func TestReducedMachineHasNoVolumes(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.Reduced = true
	s.Volumes = []engine.Volume{volume(t)}
	if _, err := newEngine(t).Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), "reduced isolation") {
		t.Errorf("Start: got %v, want it to name the reduced isolation", err)
	}
}
