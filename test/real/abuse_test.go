package real

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// memoryKiB reads a field of a process's status, such as VmHWM, the most
// memory it ever had.
func memoryKiB(t *testing.T, pid int, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/%d/status has no %s", pid, field)
	return 0
}

// owner is the process that owns a running box.
func owner(t *testing.T, b *boxlite.Box) int {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.PID
}

// TestForkBomb lets a command start processes without end. Others in the box
// go on, and killing it kills all of them.
func TestForkBomb(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine, Security: boxlite.MaximumSecurity()})
	boxtest.Sh(t, b, "true")
	c := b.Command(t.Context(), "sh", "-c", "bomb() { bomb | bomb & }; bomb; wait; sleep 1000")
	c.Timeout = 2 * time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	limitless := &boxlite.SecurityOptions{}
	probe := b.Command(t.Context(), "sh", "-c", "echo alive; ps | wc -l")
	probe.Security = limitless
	if out, err := probe.Output(); err != nil || !strings.HasPrefix(string(out), "alive\n") {
		t.Errorf("another command, meanwhile: got %q, %v, want it to run", out, err)
	}
	exit, ok := errors.AsType[*boxlite.ExitError](c.Wait())
	if !ok || exit.Cause != boxlite.CauseTimeout && exit.Cause != boxlite.CauseExited {
		t.Errorf("the bomb: got %v, want it to end with its time", exit)
	}
	if exit != nil && exit.Cause == boxlite.CauseExited {
		_ = c.Kill() // what it left in the background
	}
	boxtest.Eventually(t, 20*time.Second, "all processes of the bomb are gone", func() bool {
		return strings.TrimSpace(boxtest.Sh(t, b, "ps | grep -c '[s]h -c bomb' || true")) == "0"
	})
	// Address spaces of the box are processes of the host. The machine keeps
	// those it has for later ones, and cannot use one again that is still ending.
	if now := len(hostos.Descendants(owner(t, b))); now > 1000 {
		t.Errorf("processes of the box on the host after a bomb bounded to 100: got %d", now)
	}
}

// TestMemoryHog lets a command take all memory: it is killed, the host is not
// troubled, and the box or a new run of it goes on.
func TestMemoryHog(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, MemoryMiB: 128})
	boxtest.Sh(t, b, "true")
	began := time.Now()
	err := b.Command(t.Context(), "python3", "-c", "x = []\nwhile True: x.append(bytearray(b'x' * (1 << 20)))").Run()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("killed after %v, want soon", took)
	}
	exit, ok := errors.AsType[*boxlite.ExitError](err)
	if !ok || exit.Cause != boxlite.CauseOOM {
		t.Errorf("the hog: got %v, want cause %q", err, boxlite.CauseOOM)
	}
	if info, err := b.Info(t.Context()); err != nil || info.State != boxlite.StateRunning {
		t.Errorf("the box afterwards: got %s, %q, %v, want running", info.State, info.Reason, err)
	}
	if got := boxtest.Sh(t, b, "echo works"); got != "works\n" {
		t.Errorf("afterwards: got %q, want %q", got, "works\n")
	}
}

// TestDiskFiller fills a box's disk. The box sees ENOSPC; the host is as full
// as the box may make it, and no more once the box is gone.
func TestDiskFiller(t *testing.T) {
	t.Parallel()
	rt, home := boxtest.New(t, boxtest.Alpine)
	before := free(t, home)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine, DiskSizeGB: 1})
	out, err := b.Command(t.Context(), "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=1500").CombinedOutput()
	if exit, ok := errors.AsType[*boxlite.ExitError](err); !ok || exit.Code != 1 || !strings.Contains(string(out), "No space left on device") {
		t.Errorf("1.5 GB into 1 GB: got %v, %q, want ENOSPC", err, out)
	}
	if got := boxtest.Sh(t, b, "rm /big; echo works >/f; cat /f"); got != "works\n" {
		t.Errorf("after making room: got %q, want %q", got, "works\n")
	}
	if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if lost := before - free(t, home); lost > 500e6 { // others write too
		t.Errorf("after Remove: %d MB of the host are gone", lost/1e6)
	}
}

// free is the free space of a file system, in bytes.
func free(t *testing.T, path string) int64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// slowReader takes what it is given after a pause, now and then.
type slowReader struct {
	n      int64
	pauses int
	bad    bool
}

func (w *slowReader) Write(p []byte) (int, error) {
	if w.n>>27 != (w.n+int64(len(p)))>>27 { // each 128 MiB
		w.pauses++
		time.Sleep(100 * time.Millisecond) // it is slow: that is the point
	}
	w.bad = w.bad || len(bytes.Trim(p, "y\n\x00")) > 0
	w.n += int64(len(p))
	return len(p), nil
}

// TestFloodToASlowReader streams 2 GB to a reader that pauses. It all arrives,
// and nobody keeps it in memory meanwhile.
func TestFloodToASlowReader(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(t, b, "true")
	shim, sentry := owner(t, b), boxtest.Machine(t, b)
	shimBefore, ourBefore := memoryKiB(t, shim, "VmRSS"), memoryKiB(t, os.Getpid(), "VmHWM")
	const size = 2 << 30
	var w slowReader
	c := b.Command(t.Context(), "dd", "if=/dev/zero", "bs=1M", fmt.Sprintf("count=%d", size>>20))
	if boxtest.Long() { // a pipe in a box is slow
		c = b.Command(t.Context(), "sh", "-c", fmt.Sprintf("yes | head -c %d", size))
	}
	c.Stdout = &w
	began := time.Now()
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if w.n != size || w.bad {
		t.Errorf("got %d bytes, damaged %v, want %d, whole", w.n, w.bad, size)
	}
	t.Logf("2 GiB in %v with %d pauses, %d MB/s; most memory: owner %d KiB, machine %d KiB",
		took, w.pauses, int64(size/1e6/took.Seconds()), memoryKiB(t, shim, "VmHWM"), memoryKiB(t, sentry, "VmHWM"))
	if grew := memoryKiB(t, shim, "VmHWM") - shimBefore; grew > 64<<10 {
		t.Errorf("the owner of the box grew by %d KiB", grew)
	}
	if grew := memoryKiB(t, os.Getpid(), "VmHWM") - ourBefore; grew > 64<<10 {
		t.Errorf("the caller grew by %d KiB", grew)
	}
}

// TestManyLinesOnBothStreams checks that all lines arrive, each stream in
// order.
func TestManyLinesOnBothStreams(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	var out, stderr bytes.Buffer
	c := b.Command(t.Context(), "sh", "-c", "i=0; while [ $i -lt 10000 ]; do i=$((i+1)); echo out $i; echo err $i >&2; done")
	c.Stdout, c.Stderr = &out, &stderr
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"out": out.String(), "err": stderr.String()} {
		var want strings.Builder
		for i := range 10000 {
			fmt.Fprintf(&want, "%s %d\n", name, i+1)
		}
		if got != want.String() {
			t.Errorf("%s: got %d bytes, want the 10000 lines in order, %d bytes", name, len(got), want.Len())
		}
	}
}

// TestFastOutputIsWhole runs commands that write much as soon as they start,
// before anybody can have begun to read.
func TestFastOutputIsWhole(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	for i := range 100 {
		var w slowReader
		c := b.Command(t.Context(), "dd", "if=/dev/zero", "bs=1M", "count=6")
		c.Stdout = &w
		if err := c.Run(); err != nil || w.n != 6<<20 {
			t.Fatalf("run %d: got %d bytes, %v, want %d", i, w.n, err, 6<<20)
		}
	}
}

// TestBinaryStream sends bytes of every value through a command, both ways.
func TestBinaryStream(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	in := make([]byte, 32<<20)
	for i := range in {
		in[i] = byte(i * i >> 7)
	}
	sent, got := sha256.Sum256(in), sha256.New()
	c := b.Command(t.Context(), "cat")
	c.Stdin, c.Stdout = bytes.NewReader(in), got
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Sum(nil), sent[:]) {
		t.Error("32 MiB through cat: got other bytes")
	}
}

// TestEndlessInputToADeafCommand checks that a command that reads nothing ends
// all the same, and its writer with it.
func TestEndlessInputToADeafCommand(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	c := b.Command(t.Context(), "sh", "-c", "sleep 0.2; echo done")
	c.Stdin = zeros{}
	out, err := c.Output()
	if err != nil || string(out) != "done\n" {
		t.Errorf("got %q, %v, want %q", out, err, "done\n")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
