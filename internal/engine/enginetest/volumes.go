package enginetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite/internal/engine"
)

var volumeCases = []testCase{
	{name: "HostAndBoxShareFiles", needs: Volumes, run: testShared},
	{name: "ReadOnlyHolds", needs: Volumes, run: testReadOnlyVolume},
	{name: "ManyNestAndOverlap", needs: Volumes, run: testNestedVolumes},
	{name: "FilesBelongToTheCaller", needs: Volumes, run: testVolumeOwners},
	{name: "LinksStayInTheBox", needs: Volumes, run: testVolumeLinks},
	{name: "OnlyFilesAreServed", needs: Volumes, run: testVolumeKinds},
	{name: "KeepsTheBoxesOwnFiles", needs: Volumes, run: testVolumeRestart},
	{name: "BadHostPathsAreRefused", needs: Volumes, run: testBadVolumes},
}

// hostFile makes a file of the host and returns its path.
func hostFile(t testing.TB, content string, path ...string) string {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// hostRead returns what a file of the host holds, or the error.
func hostRead(path ...string) string {
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// withVolumes boots a box with volumes.
func (j *judge) withVolumes(t testing.TB, vs ...engine.Volume) *box {
	t.Helper()
	s := j.spec(t)
	s.Volumes = vs
	return j.boot(t, s)
}

// tempDir is a temporary directory by its true name, as volumes want it.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func testShared(t *testing.T, j *judge) {
	dir := tempDir(t)
	hostFile(t, "one", dir, "in")
	single := hostFile(t, "alone", tempDir(t), "single")
	b := j.withVolumes(t, engine.Volume{Host: dir, Guest: "/made/for/it"}, engine.Volume{Host: single, Guest: "/made/single"})
	for _, tt := range []struct{ name, script, want string }{
		{"read", "cat /made/for/it/in", "one"},
		{"read a single file", "cat /made/single", "alone"},
		{"write", "echo two > /made/for/it/out; cat /made/for/it/out", "two"},
		{"write a single file", "echo changed > /made/single; cat /made/single", "changed"},
		{"directories and links", "cd /made/for/it; mkdir -p a/b; ln out a/b/hard; ln -s ../../out a/b/soft; cat a/b/hard a/b/soft", "two\ntwo"},
		{"rename", "cd /made/for/it; mv a/b/hard moved; mv a c; ls c/b; cat moved", "soft\ntwo"},
		{"truncate and append", "cd /made/for/it; : > moved; echo x >> moved; cat out", "x"},
		{"times and modes", "cd /made/for/it; touch -d '2001-02-03 04:05:06' out; chmod 640 out; stat -c '%a %Y' out", "640 981173106"},
		{"remove", "cd /made/for/it; rm -r c moved; ls", "in\nout"},
	} {
		if got := b.output(t, tt.script); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := hostRead(dir, "out") + hostRead(single); got != "x\nchanged\n" {
		t.Errorf("on the host: got %q, want what the box wrote", got)
	}
	// What the host does, a box sees that has looked before.
	hostFile(t, "longer than before", dir, "in")
	if err := os.Rename(filepath.Join(dir, "out"), filepath.Join(dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	if got, want := b.output(t, "cd /made/for/it; cat in; echo; cat out 2>/dev/null; ls"), "longer than before\nelsewhere\nin"; got != want {
		t.Errorf("after changes of the host: got %q, want %q", got, want)
	}
}

func testReadOnlyVolume(t *testing.T, j *judge) {
	dir := tempDir(t)
	hostFile(t, "kept", dir, "d", "f")
	b := j.withVolumes(t,
		engine.Volume{Host: dir, Guest: "/ro", ReadOnly: true},
		engine.Volume{Host: filepath.Join(dir, "d", "f"), Guest: "/single", ReadOnly: true})
	if got := b.output(t, "cat /ro/d/f /single"); got != "keptkept" {
		t.Errorf("read: got %q, want it twice", got)
	}
	for _, script := range []string{
		"echo x > /ro/d/f", "echo x > /single", "echo x >> /single", "> /ro/new", "mkdir /ro/new", "rm /ro/d/f", "mv /ro/d /ro/e",
		"ln /ro/d/f /ro/l", "ln -s x /ro/l", "chmod 777 /ro/d/f", "chmod 777 /single", "touch /ro/d/f", "touch /single",
	} {
		if r := b.run(t, sh(script)); r.exit.Code == 0 {
			t.Errorf("%s: got nil, want a refusal", script)
		}
	}
	if got := hostRead(dir, "d", "f"); got != "kept" {
		t.Errorf("on the host: got %q, want it unchanged", got)
	}
}

// testNestedVolumes mounts some in each other, in an order that is not theirs,
// and a good number in all.
func testNestedVolumes(t *testing.T, j *judge) {
	outer, inner := tempDir(t), tempDir(t)
	hostFile(t, "outer", outer, "f")
	hostFile(t, "hidden", outer, "sub", "f")
	hostFile(t, "inner", inner, "f")
	single := hostFile(t, "single", tempDir(t), "s")
	vs := []engine.Volume{
		{Host: single, Guest: "/v/sub/f"},
		{Host: inner, Guest: "/v/sub", ReadOnly: true},
		{Host: inner, Guest: "/v/missing/sub"},
		{Host: outer, Guest: "/v"},
		{Host: outer, Guest: "/again", ReadOnly: true},
		{Host: inner, Guest: "/again/only/here"},
	}
	script, want := "cat /v/f; echo; cat /v/sub/f; echo; cat /v/missing/sub/f; echo; cat /again/sub/f; echo; cat /again/only/here/f",
		"outer\nsingle\ninner\nhidden\ninner"
	for i := len(vs); i < 24; i++ {
		dir := tempDir(t)
		hostFile(t, strconv.Itoa(i), dir, "n")
		vs = append(vs, engine.Volume{Host: dir, Guest: fmt.Sprintf("/many/%d", i)})
		script += fmt.Sprintf("; echo; cat /many/%d/n", i)
		want += fmt.Sprintf("\n%d", i)
	}
	b := j.withVolumes(t, vs...)
	if got := b.output(t, script); got != want {
		t.Errorf("nested: got %q, want %q", got, want)
	}
	if r := b.run(t, sh("> /v/sub/x")); r.exit.Code == 0 {
		t.Error("write to a read-only volume in a writable one: got nil, want a refusal")
	}
	if got := b.output(t, "echo w > /v/x; cat /again/x"); got != "w" {
		t.Errorf("one directory mounted twice: got %q, want w", got)
	}
	if got, want := strings.Join(names(t, outer), " "), "f missing sub x"; got != want {
		t.Errorf("directory that others are mounted in: got %s, want %s", got, want)
	}
}

func testVolumeOwners(t *testing.T, j *judge) {
	dir := tempDir(t)
	hostFile(t, "", dir, "f")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	b := j.withVolumes(t, engine.Volume{Host: dir, Guest: "/v"})
	// Whatever the box says about owners is taken and means nothing.
	if got, want := b.output(t, "cd /v; echo x > made; mkdir d; ln -s made l; chown 33:33 made d; chown -h 33:33 l; stat -c '%u %g' f made d l"), strings.Repeat("0 0\n", 3)+"0 0"; got != want {
		t.Errorf("owners in the box: got %q, want %q", got, want)
	}
	if got, want := b.output(t, "cd /v; cp /bin/true set; chmod 6755 set; stat -c %a set; chmod 2775 d; stat -c %a d"), "755\n2775"; got != want {
		t.Errorf("set-user-id: got %q, want %q", got, want)
	}
	if _, lacks := j.o.Lacks[Users]; !lacks {
		c := sh("cd /v; echo x > user && chmod 600 f")
		c.User = "1234"
		if r := b.run(t, c); !strings.Contains(r.errs, "chmod") {
			t.Errorf("another user of the box: got %q, want the file, and no chmod of root's", r.errs)
		}
	}
	for _, name := range []string{"made", "d", "l", "set"} {
		st, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("on the host: %v", err)
			continue
		}
		if sys := st.Sys().(*syscall.Stat_t); int(sys.Uid) != os.Geteuid() || int(sys.Gid) != os.Getegid() || st.Mode()&os.ModeSetuid != 0 {
			t.Errorf("%s on the host: got owner %d:%d, mode %v, want those of the test", name, sys.Uid, sys.Gid, st.Mode())
		}
	}
}

func testVolumeLinks(t *testing.T, j *judge) {
	dir, outside := tempDir(t), tempDir(t)
	canary := hostFile(t, "canary", outside, "canary")
	for name, to := range map[string]string{
		"absolute": canary, "directory": outside, "dots": filepath.Join("..", "..", filepath.Base(filepath.Dir(outside)), filepath.Base(outside), "canary"),
		"root": "/proc/self/root" + canary, "cwd": "/proc/self/cwd/../../../../../.." + canary,
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b := j.withVolumes(t, engine.Volume{Host: dir, Guest: "/v"})
	got := b.run(t, sh("cd /v; cat absolute directory/canary dots root cwd; for l in absolute dots root cwd directory/canary; do echo x > $l; done")).out
	if strings.Contains(got, "canary") {
		t.Errorf("links out of a volume: got %q, want nothing of the host", got)
	}
	if got := hostRead(canary); got != "canary" {
		t.Errorf("file outside of the volume: got %q, want it unchanged", got)
	}
}

func testVolumeKinds(t *testing.T, j *judge) {
	dir := tempDir(t)
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	old, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	// A unix address is short: it is named from where it lies.
	defer os.Chdir(old)
	if err := os.Chdir(dir); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: "socket"}); err != nil {
		t.Fatal(err)
	}
	b := j.withVolumes(t, engine.Volume{Host: dir, Guest: "/v"})
	for _, kind := range []string{"fifo", "socket"} {
		if r := b.run(t, sh("cd /v; timeout 5 head -c1 "+kind)); r.exit.Code == 0 || r.exit.Code == 124 {
			t.Errorf("open of a %s: got code %d, want a refusal", kind, r.exit.Code)
		}
	}
	b.run(t, sh("cd /v; mkfifo f; mknod c c 1 3; mknod b b 8 0"))
	if got, want := strings.Join(names(t, dir), " "), "fifo socket"; got != want {
		t.Errorf("after mknod, on the host: got %s, want %s", got, want)
	}
}

func testVolumeRestart(t *testing.T, j *judge) {
	dir := tempDir(t)
	s := j.spec(t)
	s.Volumes = []engine.Volume{{Host: dir, Guest: "/v"}}
	b := j.boot(t, s)
	b.output(t, "echo own > /own; echo shared > /v/shared; exec 3</v/shared; sync")
	if d, ok := b.machine.(engine.DiskSaver); ok {
		if _, err := d.SaveDisk(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.stop(t)
	b = j.boot(t, s)
	if got, want := b.output(t, "cat /own /v/shared"), "own\nshared"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
}

func testBadVolumes(t *testing.T, j *judge) {
	dir := tempDir(t)
	file := hostFile(t, "", dir, "file")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(".", link); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]engine.Volume{
		"missing":          {Host: filepath.Join(dir, "missing"), Guest: "/v"},
		"symbolic link":    {Host: link, Guest: "/v"},
		"through a link":   {Host: filepath.Join(link, "file"), Guest: "/v"},
		"device":           {Host: "/dev/null", Guest: "/v"},
		"kernel's":         {Host: "/proc/sys", Guest: "/v"},
		"relative":         {Host: "tmp", Guest: "/v"},
		"on the root":      {Host: dir, Guest: "/"},
		"relative in box":  {Host: dir, Guest: "v"},
		"file on a dir":    {Host: file, Guest: "/bin"},
		"on the box's own": {Host: dir, Guest: "/proc/sys"},
	} {
		s := j.spec(t)
		s.Volumes = []engine.Volume{v}
		m, err := j.eng.Start(t.Context(), s)
		if err == nil {
			m.Stop(context.Background())
			t.Errorf("%s: got nil, want an error", name)
		}
		j.wantEmptyDir(t, s)
	}
}
