package escape

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/shim"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestRootOfABoxIsNoRoot tries what root of a host could.
func TestRootOfABoxIsNoRoot(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	for _, script := range []string{
		"mknod /vda b 254 0 && dd if=/vda of=/dev/null count=1",
		"mknod /mem c 1 1 && dd if=/mem of=/dev/null count=1",
		"insmod /nothing.ko",
		"echo 1 >/proc/sys/kernel/panic",
		"echo b >/proc/sysrq-trigger",
		"echo '|/bin/sh' >/proc/sys/kernel/core_pattern",
		"echo 0 >/sys/fs/cgroup/cgroup.procs",
		"echo max >/sys/fs/cgroup/pids.max",
		"mount -t ext4 /dev/vda /mnt",
		"head -c 1 /proc/kcore",
		"reboot -f",
	} {
		out, err := b.Command(t.Context(), "sh", "-c", script).CombinedOutput()
		exit, ok := errors.AsType[*boxlite.ExitError](err)
		if !ok || exit.Cause == boxlite.CauseBoxDied {
			t.Errorf("%s: got %v, %q, want a refusal", script, err, out)
		}
	}
	if got := boxtest.Sh(t, b, "echo alive"); got != "alive\n" {
		t.Errorf("afterwards: got %q, want %q", got, "alive\n")
	}
}

// TestTracingTheAgent asks the kernel of the box for control over PID 1.
func TestTracingTheAgent(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	const trace = `
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
    print(libc.ptrace(request, 1, 0, 0), ctypes.get_errno())
time.sleep(60)`
	c := b.Command(t.Context(), "python3", "-u", "-c", trace)
	var out bytes.Buffer
	c.Stdout = &out
	c.Timeout = 2 * time.Second
	err := c.Run()
	t.Logf("tracing PID 1: %q, %v", out.String(), err)
	answered := make(chan error, 1)
	go func() { answered <- b.Command(t.Context(), "true").Run() }()
	select {
	case err := <-answered:
		if err != nil && !errors.Is(err, boxlite.ErrBoxDied) {
			t.Errorf("a command afterwards: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a command afterwards hangs")
	}
	began := time.Now()
	if err := b.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if took := time.Since(began); took > 25*time.Second {
		t.Errorf("stop took %v", took)
	}
}

// TestMachineIsConfined looks at the host's side of a boundary.
func TestMachineIsConfined(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(t, b, "true")
	pid := boxtest.Machine(t, b)
	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
	}
	want := map[string]string{"Uid": fmt.Sprintf("%d %[1]d %[1]d %[1]d", uid), "NoNewPrivs": "1", "Seccomp": "2"}
	for _, p := range append([]int{pid}, hostos.Descendants(pid)...) {
		got := status(t, p)
		for field, want := range want {
			if field != "NoNewPrivs" && p != pid && got[field] == "" {
				continue // has ended
			}
			if got[field] != want {
				t.Errorf("%s of process %d: got %q, want %q", field, p, got[field], want)
			}
		}
	}
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		ours, err1 := os.Readlink("/proc/self/ns/" + ns)
		its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err1 != nil || err2 != nil || ours == its {
			t.Errorf("%s namespace: got %q, want another than ours, %q (%v, %v)", ns, its, ours, err1, err2)
		}
	}
	for _, file := range open(t, pid) {
		path := strings.TrimSuffix(file, " (deleted)")
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "/memfd:") || path == os.DevNull {
			continue
		}
		ok := strings.HasPrefix(path, filepath.Join(home, "images", "rootfs")) ||
			strings.HasPrefix(path, filepath.Join(home, "boxes", b.ID(), "disk")) ||
			strings.HasSuffix(path, ".erofs")
		if !ok {
			t.Errorf("the machine has %s of the host open", file)
		}
	}
}

func status(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, v, _ := strings.Cut(line, ":")
		all[key] = strings.Join(strings.Fields(v), " ")
	}
	return all
}

// open lists what a process has open.
func open(t *testing.T, pid int) (files []string) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			files = append(files, to)
		}
	}
	return files
}

// TestGarbageToTheAgent sends the agent streams that nobody sane would. It
// closes them and goes on.
func TestGarbageToTheAgent(t *testing.T) {
	t.Parallel()
	rt, home := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	boxtest.Sh(t, b, "true")
	client := shim.NewClient(filepath.Join(home, "boxes", b.ID()))
	random := make([]byte, 1<<20)
	_, _ = rand.Read(random)
	for name, data := range map[string][]byte{
		"nothing":      {},
		"one byte":     {1},
		"random":       random,
		"zeros":        make([]byte, 1<<20),
		"huge frame":   append([]byte{1, 0xff, 0xff, 0xff, 0xff}, random...),
		"http":         []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"broken json":  append([]byte{1, 0, 0, 0, 2}, "{x"...),
		"nested json":  append([]byte{1, 0, 0, 0x40, 0}, bytes.Repeat([]byte("["), 0x4000)...),
		"cut in frame": {1, 0, 0, 1, 0, '{'},
	} {
		for range 20 {
			conn, err := client.Dial(t.Context())
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			send(t, conn, data)
		}
	}
	if got := boxtest.Sh(t, b, "echo alive"); got != "alive\n" {
		t.Errorf("afterwards: got %q, want %q", got, "alive\n")
	}
	boxtest.Eventually(t, 10*time.Second, "the agent has closed the streams", func() bool {
		return len(strings.Fields(boxtest.Sh(t, b, "ls /proc/1/fd"))) < 20
	})
}

// send writes and hangs up. The agent may do so first.
func send(t *testing.T, conn net.Conn, data []byte) {
	t.Helper()
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(data); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the agent neither reads nor closes a stream of %d bytes of garbage", len(data))
	}
}
