package boxlite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/boxlite-go/boxlite"
)

func TestLifecycle(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Name: "life"})
	if got := state(t, b); got != boxlite.StateConfigured {
		t.Errorf("after Create: got %s, want configured", got)
	}
	sh(t, b, "echo kept > file")
	if got := state(t, b); got != boxlite.StateRunning {
		t.Errorf("after a command: got %s, want running", got)
	}
	for range 2 {
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := state(t, b); got != boxlite.StateStopped {
		t.Errorf("after Stop: got %s, want stopped", got)
	}
	if err := b.Command(t.Context(), "true").Run(); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("exec after Stop: got %v, want ErrState", err)
	}
	// Another handle may start it again, and finds the files.
	again, err := rt.Box(t.Context(), "life")
	if err != nil {
		t.Fatal(err)
	}
	if got := sh(t, again, "cat file"); got != "kept\n" {
		t.Errorf("file after restart: got %q, want %q", got, "kept\n")
	}
	if err := b.Start(t.Context()); err != nil {
		t.Errorf("Start of a running box: %v", err)
	}
	sh(t, b, "true")
}

func TestRemove(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{})
	sh(t, b, "true")
	if err := b.Remove(t.Context(), boxlite.RemoveOptions{}); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("Remove of a running box: got %v, want ErrState", err)
	}
	if err := rt.Remove(t.Context(), b.ID(), boxlite.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"exec":          b.Command(t.Context(), "true").Run(),
		"start":         b.Start(t.Context()),
		"remove by key": rt.Remove(t.Context(), b.ID(), boxlite.RemoveOptions{}),
	} {
		if !errors.Is(err, boxlite.ErrNotFound) {
			t.Errorf("%s of a removed box: got %v, want ErrNotFound", what, err)
		}
	}
	if _, err := b.Info(t.Context()); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("info of a removed box: got %v, want ErrNotFound", err)
	}
	if err := b.Remove(t.Context(), boxlite.RemoveOptions{}); err != nil {
		t.Errorf("second Remove through the handle: got %v, want nil", err)
	}
}

func TestAutoRemove(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{AutoRemove: true})
	sh(t, b, "true")
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Box(t.Context(), b.ID()); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("after Stop: got %v, want ErrNotFound", err)
	}
	if err := b.Remove(t.Context(), boxlite.RemoveOptions{}); err != nil {
		t.Errorf("Remove of a box that removed itself: got %v, want nil", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Name: "one"})
	if _, err := rt.Create(t.Context(), boxlite.BoxOptions{Name: "one", Image: image}); !errors.Is(err, boxlite.ErrExists) {
		t.Errorf("duplicate name: got %v, want ErrExists", err)
	}
	for _, key := range []string{"one", b.ID(), b.ID()[:6]} {
		if got, err := rt.Box(t.Context(), key); err != nil || got.ID() != b.ID() {
			t.Errorf("Box(%q): got %v, want %s", key, err, b.ID())
		}
	}
	got, created, err := rt.GetOrCreate(t.Context(), boxlite.BoxOptions{Name: "one"})
	if err != nil || created || got.ID() != b.ID() {
		t.Errorf("GetOrCreate: got created %v, %v, want the existing box", created, err)
	}
	if e, _ := os.ReadDir(filepath.Join(home(t, rt), "boxes")); len(e) != 1 {
		t.Errorf("directories of boxes: got %d, want 1", len(e))
	}
}

func home(t *testing.T, rt *boxlite.Runtime) string {
	t.Helper()
	info, err := rt.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.Home
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	for name, o := range map[string]boxlite.BoxOptions{
		"name":           {Name: "a/b"},
		"image":          {Image: "Not A Reference"},
		"cpus":           {CPUs: -1},
		"many cpus":      {CPUs: 1000},
		"little memory":  {MemoryMiB: 1},
		"disk":           {DiskSizeGB: -5},
		"relative dir":   {WorkingDir: "a"},
		"env":            {Env: []string{"=x"}},
		"limit":          {Security: boxlite.SecurityOptions{MaxFileSize: -1}},
		"image, rootfs":  {Image: image, Rootfs: "/"},
		"long host name": {Hostname: strings.Repeat("x", 65)},
	} {
		if _, err := rt.Create(t.Context(), o); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	if e, _ := os.ReadDir(filepath.Join(home(t, rt), "boxes")); len(e) != 0 {
		t.Errorf("half-made boxes: got %d, want 0", len(e))
	}
}

func TestAttachedEndsWithItsRuntimeDetachedDoesNot(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	dir := home(t, rt)
	other := open(t, dir)
	for _, detach := range []bool{false, true} {
		starter := open(t, dir)
		b := newBox(t, rt, boxlite.BoxOptions{Detach: detach})
		mine, err := starter.Box(t.Context(), b.ID())
		if err != nil {
			t.Fatal(err)
		}
		sh(t, mine, "true")
		theirs, err := other.Box(t.Context(), b.ID())
		if err != nil {
			t.Fatal(err)
		}
		sh(t, theirs, "true") // used by somebody else meanwhile
		if err := starter.Close(); err != nil {
			t.Fatal(err)
		}
		want := boxlite.StateStopped
		if detach {
			want = boxlite.StateRunning
		}
		if got := state(t, theirs); got != want {
			t.Errorf("detach %v: after Close of the starter: got %s, want %s", detach, got, want)
		}
	}
}

func TestTwoRuntimesStartOneBox(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	other := open(t, home(t, rt))
	b := newBox(t, rt, boxlite.BoxOptions{Detach: true})
	var wg sync.WaitGroup
	pids := make([]int, 8)
	for i := range pids {
		wg.Go(func() {
			r := []*boxlite.Runtime{rt, other}[i%2]
			h, err := r.Box(t.Context(), b.ID())
			if err == nil {
				err = h.Start(t.Context())
			}
			if err != nil {
				t.Error(err)
				return
			}
			info, err := h.Info(t.Context())
			if err != nil {
				t.Error(err)
			}
			pids[i] = info.PID
		})
	}
	wg.Wait()
	for _, pid := range pids {
		if pid != pids[0] || pid == 0 {
			t.Fatalf("shims: got %v, want one", pids)
		}
	}
}

func TestKilledShim(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Detach: true})
	c := b.Command(t.Context(), "sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := c.Wait(); !errors.Is(err, boxlite.ErrBoxDied) {
		t.Errorf("Wait: got %v, want ErrBoxDied", err)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("noticed after %v", d)
	}
	eventually(t, "failed", func() bool { return state(t, b) == boxlite.StateFailed })
	sh(t, b, "true") // starts it again
}

func TestJob(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Cmd: []string{"sh", "-c", "echo out; echo err >&2; exit 4"}, Detach: true})
	if err := b.Command(t.Context(), "true").Run(); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("exec in a job that does not run: got %v, want ErrState", err)
	}
	for range 2 { // and once more
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		log, err := b.Logs(t.Context(), boxlite.LogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(log)
		log.Close()
		if err != nil || !strings.Contains(string(got), "out\n") || !strings.Contains(string(got), "err\n") {
			t.Errorf("logs: got %q, %v, want both lines", got, err)
		}
		info, err := b.Info(t.Context())
		if err != nil || info.State != boxlite.StateStopped || info.ExitCode == nil || *info.ExitCode != 4 {
			t.Errorf("after the end: got %+v, %v, want stopped with exit code 4", info, err)
		}
	}
}

func TestMainInTheForeground(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	for _, autoRemove := range []bool{false, true} {
		b := newBox(t, rt, boxlite.BoxOptions{Cmd: []string{"sh", "-c", "cat; exit 5"}, AutoRemove: autoRemove})
		c := b.Main(t.Context())
		var out bytes.Buffer
		c.Stdin, c.Stdout = strings.NewReader("input"), &out
		exit, ok := errors.AsType[*boxlite.ExitError](c.Run())
		if !ok || exit.Code != 5 || out.String() != "input" {
			t.Errorf("got %q, %v, want the input and exit status 5", out.String(), exit)
		}
		info, err := b.Info(t.Context())
		if autoRemove {
			if !errors.Is(err, boxlite.ErrNotFound) {
				t.Errorf("with AutoRemove: got %v, want ErrNotFound", err)
			}
			continue
		}
		if err != nil || info.State != boxlite.StateStopped || info.ExitCode == nil || *info.ExitCode != 5 {
			t.Errorf("after it: got %+v, %v, want stopped with exit code 5", info, err)
		}
	}
}

func TestJobThatCannotRun(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Cmd: []string{"no-such-command"}})
	for what, err := range map[string]error{"Start": b.Start(t.Context()), "Main": b.Main(t.Context()).Run()} {
		if ce, ok := errors.AsType[*boxlite.CommandError](err); !ok || ce.Code != 127 {
			t.Errorf("%s: got %v, want a CommandError of 127", what, err)
		}
	}
}

func TestCopyAndFiles(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	src := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(src, "sub", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "sub", "f.sh"), []byte("#!/bin/sh\n"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub/f.sh", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	// docker cp: the first becomes /w, the second goes into it.
	for range 2 {
		if err := b.CopyIn(t.Context(), src, "/w"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.WriteFile(t.Context(), "/w/new/x", []byte("hi"), 0o640); err != nil {
		t.Fatal(err)
	}
	if got, err := b.ReadFile(t.Context(), "/w/new/x"); err != nil || string(got) != "hi" {
		t.Errorf("ReadFile: got %q, %v, want %q", got, err, "hi")
	}
	w, err := fs.Sub(b.FS(t.Context()), "w") // not /proc, which changes under the test
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(w, "sub/f.sh", "link", "data/sub/f.sh", "new/x"); err != nil {
		t.Error(err)
	}
	dst := filepath.Join(t.TempDir(), "out")
	if err := b.CopyOut(t.Context(), "/w/sub", dst); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dst, "f.sh")); err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("copied file: got %v, %v, want mode 0750", st, err)
	}
	if _, err := os.Stat(filepath.Join(dst, "empty")); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"CopyIn":   b.CopyIn(t.Context(), "/no/such/file", "/w"),
		"CopyOut":  b.CopyOut(t.Context(), "/no/such/file", dst),
		"ReadFile": errOf(b.ReadFile(t.Context(), "/no/such/file")),
	} {
		if !errors.Is(err, boxlite.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of a missing file: got %v, want ErrNotFound", what, err)
		}
	}
	err = b.CopyOut(t.Context(), "/w/sub/f.sh", filepath.Join(dst, "f.sh"), boxlite.CopyOptions{NoOverwrite: true})
	if !errors.Is(err, boxlite.ErrExists) {
		t.Errorf("CopyOut over a file: got %v, want ErrExists", err)
	}
}

func errOf(_ []byte, err error) error { return err }

func TestLeftoversAreCleared(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{AutoRemove: true, Detach: true})
	sh(t, b, "true")
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(info.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "failed", func() bool { return state(t, b) == boxlite.StateFailed })
	open(t, home(t, rt))
	if _, err := rt.Box(t.Context(), b.ID()); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("auto-remove box of a killed shim after Open: got %v, want ErrNotFound", err)
	}
	if e, _ := os.ReadDir(filepath.Join(home(t, rt), "boxes")); len(e) != 0 {
		t.Errorf("directories of boxes: got %d, want 0", len(e))
	}
}

// A server starts boxes for months, of which most end by themselves.
func TestBoxesThatEndByThemselvesLeaveNothingOpen(t *testing.T) {
	hereOnly(t, "it counts what this process has open") // alone: other tests open files
	rt := newRuntime(t)
	run := func() {
		b := newBox(t, rt, boxlite.BoxOptions{Cmd: []string{"true"}})
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the job has ended", func() bool { return state(t, b) == boxlite.StateStopped })
	}
	run()
	before := openPipes(t)
	for range 3 {
		run()
	}
	eventually(t, fmt.Sprintf("as many pipes are open as before, %d", before), func() bool { return openPipes(t) <= before })
}

// openPipes counts the pipes of this process.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestClosedRuntimeRefuses(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, open(t, home(t, rt)), boxlite.BoxOptions{})
	mine, err := rt.Box(t.Context(), b.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: image}); !errors.Is(err, boxlite.ErrRuntimeClosed) {
		t.Errorf("Create: got %v, want ErrRuntimeClosed", err)
	}
	if err := mine.Start(t.Context()); err == nil {
		t.Error("Start: got nil, want an error")
	}
}
