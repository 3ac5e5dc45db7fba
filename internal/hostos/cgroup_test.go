package hostos

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeTree makes a directory that looks like a mounted cgroup v2, with this
// process in own, and files as /proc/self has them.
func fakeTree(t *testing.T, own string, handsOut map[string]string) (root, cgroups, mountinfo string) {
	t.Helper()
	root = t.TempDir()
	for dir := own; ; dir = filepath.Dir(dir) {
		put(t, filepath.Join(root, dir, "cgroup.procs"), "")
		put(t, filepath.Join(root, dir, "cgroup.subtree_control"), handsOut[dir])
		if dir == "/" {
			break
		}
	}
	info := t.TempDir()
	cgroups, mountinfo = filepath.Join(info, "cgroup"), filepath.Join(info, "mountinfo")
	put(t, cgroups, "0::"+own+"\n")
	put(t, mountinfo, "22 1 8:1 / / rw - ext4 /dev/x rw\n"+
		"30 22 0:26 / "+root+" rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	return root, cgroups, mountinfo
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUnifiedCgroupIsBelowTheNearestThatDelegates(t *testing.T) {
	for _, tt := range []struct {
		name, own string
		handsOut  map[string]string
		want      string // below root; "": none
		has       []string
	}{
		{"a service", "/system.slice/x.service", map[string]string{"/": "cpu memory pids", "/system.slice": "cpu memory pids"}, "/system.slice", []string{"memory", "cpu", "pids"}},
		{"a user's session", "/user.slice/a/b/c", map[string]string{"/user.slice/a": "memory pids"}, "/user.slice/a", []string{"memory", "pids"}},
		{"the root", "/", map[string]string{"/": "cpuset cpu io memory pids"}, "/", []string{"memory", "cpu", "pids"}},
		{"no memory controller", "/a", map[string]string{"/": "cpu pids"}, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root, cgroups, mountinfo := fakeTree(t, tt.own, tt.handsOut)
			hs, err := hierarchies(cgroups, mountinfo)
			if err != nil {
				t.Fatal(err)
			}
			c, err := newCgroup(hs, "boxlite-x", Limits{Memory: 1 << 20, CPUs: 1, Processes: 77})
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == "" {
				if len(c.dirs) != 0 || c.Memory() {
					t.Fatalf("cgroups: got %v, want none", c.dirs)
				}
				return
			}
			dir := filepath.Join(root, tt.want, "boxlite-x")
			if len(c.dirs) != 1 || c.dirs[0].path != dir {
				t.Fatalf("cgroups: got %v, want %s", c.dirs, dir)
			}
			for _, controller := range wanted {
				if got, want := c.has(controller), slices.Contains(tt.has, controller); got != want {
					t.Errorf("has %s: got %v, want %v", controller, got, want)
				}
			}
			if got, want := get(t, filepath.Join(dir, "memory.max")), "1048576"; got != want {
				t.Errorf("memory.max: got %q, want %q", got, want)
			}
			if got, want := get(t, filepath.Join(dir, "pids.max")), "77"; got != want {
				t.Errorf("pids.max: got %q, want %q", got, want)
			}
		})
	}
}

func TestUnifiedCgroupIsRead(t *testing.T) {
	root, cgroups, mountinfo := fakeTree(t, "/", map[string]string{"/": "cpu memory pids"})
	hs, err := hierarchies(cgroups, mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newCgroup(hs, "boxlite-x", Limits{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "boxlite-x")
	put(t, filepath.Join(dir, "memory.current"), "5000\n")
	put(t, filepath.Join(dir, "memory.stat"), "anon 4\ninactive_file 1000\n")
	put(t, filepath.Join(dir, "memory.events"), "low 0\noom 9\noom_kill 3\n")
	put(t, filepath.Join(dir, "cpu.stat"), "usage_usec 1500\nuser_usec 1\n")
	want := Usage{Memory: 4000, OOMKills: 3, CPU: 1500 * time.Microsecond, HasCPU: true}
	if got := c.Usage(); got != want {
		t.Errorf("Usage: got %+v, want %+v", got, want)
	}
	var attr syscall.SysProcAttr
	if err := c.Around(&attr, func() error { return nil }); err != nil || !attr.UseCgroupFD {
		t.Errorf("Around: got %v, UseCgroupFD %v, want it to start processes in the cgroup", err, attr.UseCgroupFD)
	}
}

func TestMountinfoOfContainers(t *testing.T) {
	dir := t.TempDir()
	cgroups, mountinfo := filepath.Join(dir, "cgroup"), filepath.Join(dir, "mountinfo")
	put(t, cgroups, "11:cpu,cpuacct:/docker/abc\n10:memory:/docker/abc/sub\n9:name=systemd:/x\n")
	put(t, mountinfo, ""+
		"1 2 0:1 /docker/abc /cg/memory ro - cgroup cgroup rw,memory\n"+
		"1 2 0:1 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"+
		"1 2 0:1 /elsewhere /cg/cpu2 rw - cgroup cgroup rw,cpu,cpuacct\n"+
		"1 2 0:1 / /cg/systemd rw - cgroup cgroup rw,name=systemd\n"+
		"1 2 0:1 / /cg/freezer rw - cgroup cgroup rw,freezer\n")
	hs, err := hierarchies(cgroups, mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, h := range hs {
		got = append(got, strings.Join(h.controllers, ",")+" "+h.own)
	}
	if want := []string{"memory /cg/memory/sub", "cpu,cpuacct /cg/cpu/docker/abc"}; !slices.Equal(got, want) {
		t.Errorf("hierarchies: got %q, want %q", got, want)
	}
}

func TestCgroupHoldsAndIsRemoved(t *testing.T) {
	c, err := NewCgroup("hostostest", Limits{Memory: 64 << 20, Processes: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Remove() // checked below
	if !c.Memory() {
		t.Skip("needs a cgroup to make others in")
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if err := c.Around(cmd.SysProcAttr, cmd.Start); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // the cgroup's removal did it
	if err := c.Enter(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if got := get(t, "/proc/"+strconv.Itoa(cmd.Process.Pid)+"/cgroup"); !strings.Contains(got, "boxlite-hostostest") {
		t.Errorf("cgroups of a process that entered: got %s", got)
	}
	if u := c.Usage(); u.Memory < 0 || u.Memory > 64<<20 {
		t.Errorf("memory in use: got %d", u.Memory)
	}
	go cmd.Wait() // reaps, so that the cgroup empties; ends with the process
	for range 2 {
		if err := RemoveCgroups("hostostest"); err != nil {
			t.Errorf("RemoveCgroups: %v", err)
		}
	}
	for _, d := range c.dirs {
		if _, err := os.Stat(d.path); err == nil {
			t.Errorf("%s is still there", d.path)
		}
	}
}

func TestDescendants(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 1000 & echo $!; wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var line [32]byte
	n, err := out.Read(line[:])
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(string(line[:n])))
	if err != nil {
		t.Fatal(err)
	}
	got := Descendants(os.Getpid())
	for _, want := range []int{cmd.Process.Pid, grandchild} {
		if !slices.Contains(got, want) {
			t.Errorf("Descendants: got %v, want %d among them", got, want)
		}
	}
	_ = syscall.Kill(grandchild, syscall.SIGKILL)
	_ = cmd.Wait()
}
