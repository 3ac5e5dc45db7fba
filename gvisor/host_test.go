package gvisor_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// sentry returns the host process of a machine.
func sentry(tb testing.TB, m engine.Machine) int {
	tb.Helper()
	st, err := m.(engine.Statser).Stats(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return st.PID
}

// status reads a field of /proc/pid/status.
func status(tb testing.TB, pid int, field string) string {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	tb.Fatalf("/proc/%d/status has no %s", pid, field)
	return ""
}

// ownNamespaces checks that a process shares no namespace with us.
func ownNamespaces(t *testing.T, pid int) {
	t.Helper()
	for _, ns := range []string{"user", "mnt", "pid", "net", "ipc", "uts"} {
		ours, err1 := os.Readlink("/proc/self/ns/" + ns)
		its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		if err1 != nil || err2 != nil || ours == its {
			t.Errorf("%s namespace: got %q, want another than ours, %q (%v, %v)", ns, its, ours, err1, err2)
		}
	}
}

// confined checks the credentials of a process: who it is on the host, and its
// capabilities in its own user namespace.
func confined(t *testing.T, pid, uid int, caps uint64) {
	t.Helper()
	mask := fmt.Sprintf("%016x", caps)
	for field, want := range map[string]string{
		"Uid":        fmt.Sprintf("%d %[1]d %[1]d %[1]d", uid),
		"CapEff":     mask,
		"CapPrm":     mask,
		"CapInh":     "0000000000000000",
		"CapAmb":     "0000000000000000",
		"NoNewPrivs": "1",
		"Seccomp":    "2",
	} {
		if got := status(t, pid, field); got != want {
			t.Errorf("%s: got %q, want %q", field, got, want)
		}
	}
}

func TestSentryIsJailed(t *testing.T) {
	testenv.NeedGVisor(t)
	pid := sentry(t, start(t, spec(t)))

	uid := os.Geteuid()
	if uid == 0 {
		uid = 65534
		if got := status(t, pid, "Groups"); got != "" {
			t.Errorf("groups: got %q, want none", got)
		}
	}
	confined(t, pid, uid, 1<<unix.CAP_SYS_PTRACE)
	ownNamespaces(t, pid)
	for _, stub := range hostos.Descendants(pid) {
		if got := status(t, stub, "Seccomp"); got != "2" {
			t.Errorf("Seccomp of stub %d: got %q, want 2", stub, got)
		}
	}
}

func TestSentrySeesNothingOfTheHost(t *testing.T) {
	testenv.NeedGVisor(t)
	t.Setenv("STRAY", "secret")
	// A descriptor that somebody forgot to mark close-on-exec.
	stray, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(stray)
	s := spec(t)
	m := start(t, s)
	pid := sentry(t, m)

	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if got, want := string(bytes.TrimRight(env, "\x00")), "GODEBUG=containermaxprocs=0"; err != nil || got != want {
		t.Errorf("environment of the sentry: got %q, want %q (%v)", got, want, err)
	}
	for _, to := range descriptors(t, pid) {
		if !slices.ContainsFunc(expectedFiles(s), func(p string) bool { return strings.HasPrefix(to, p) }) {
			t.Errorf("the sentry has %s open", to)
		}
	}
	for _, script := range []string{"env", "cat /proc/1/environ; true", "cat /proc/self/mountinfo", "cat /proc/cmdline"} {
		out := sh(t, m, script)
		for _, secret := range []string{"STRAY", s.Dir, s.Disk, filepath.Dir(s.Rootfs)} {
			if strings.Contains(out, secret) {
				t.Errorf("%s shows %s of the host:\n%s", script, secret, out)
			}
		}
	}
}

// descriptors lists what a process has open.
func descriptors(tb testing.TB, pid int) []string {
	tb.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil {
			all = append(all, to)
		}
	}
	return all
}

// expectedFiles are prefixes of all a sentry may have open.
func expectedFiles(s engine.Spec) []string {
	return []string{
		os.DevNull, "anon_inode:", "pipe:", "socket:", "/memfd:runsc-memory",
		"/memfd:systrap-memory", "/memfd:memory-usage", s.Rootfs, s.Disk + "/#", s.Disk + "/(upper)",
		filepath.Join(filepath.Dir(s.Dir), ""), // the agent's image, in this test's directories
	}
}

func TestBoxSeesItsLimits(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.CPUs, s.Memory, s.DiskSize, s.Hostname = 1, 192<<20, 64<<20, "lima"
	m := start(t, s)
	for script, want := range map[string]string{
		"nproc": "1\n",
		"grep MemTotal /proc/meminfo | tr -s ' '": "MemTotal: 196608 kB\n",
		"hostname": "lima\n",
		"df -k / | tail -1 | tr -s ' ' | cut -d' ' -f2":        "65536\n",
		"df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2": "98304\n",
		"stat -c %a /dev/shm /tmp":                             "1777\n1777\n",
		"grep -c ' /tmp ' /proc/mounts; true":                  "0\n",
	} {
		if got := sh(t, m, script); got != want {
			t.Errorf("%s: got %q, want %q", script, got, want)
		}
	}
}

func TestFullDiskIsENOSPC(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.DiskSize = 32 << 20
	s.Memory = 128 << 20
	m := start(t, s)
	out, code := run(t, m, "dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=64")
	if code == 0 || !strings.Contains(out, "No space left on device") {
		t.Errorf("write beyond the disk size: got code %d, %q, want ENOSPC", code, out)
	}
	if got, want := sh(t, m, "rm /root/big; dd if=/dev/zero of=/root/f bs=1M count=24 2>/dev/null; wc -c </root/f"), "25165824\n"; got != want {
		t.Errorf("after making room: got %q, want %q", got, want)
	}
}

func TestDiskMayBeLargerThanMemory(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.Memory = 64 << 20
	m := start(t, s)
	if got, want := sh(t, m, "dd if=/dev/zero of=/root/f bs=1M count=160 2>/dev/null; wc -c </root/f"), "167772160\n"; got != want {
		t.Errorf("file of 160 MB with 64 MB of memory: got %q, want %q", got, want)
	}
}
