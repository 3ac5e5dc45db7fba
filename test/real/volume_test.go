package real

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestGuideVolumes mounts what the guide mounts: data to read, a directory for
// the results, a configuration file.
func TestGuideVolumes(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Python)
	data, results := t.TempDir(), t.TempDir()
	config := filepath.Join(t.TempDir(), "config.json")
	for path, content := range map[string]string{filepath.Join(data, "numbers.csv"): "1\n2\n39\n", config: `{"factor": 2}`} {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Volumes: []boxlite.Volume{
		{Host: data, Guest: "/mnt/data", ReadOnly: true},
		{Host: results, Guest: "/workspace"},
		{Host: config, Guest: "/etc/app/config.json", ReadOnly: true},
	}})
	out, err := b.Command(t.Context(), "python", "-c", `
import json
factor = json.load(open("/etc/app/config.json"))["factor"]
total = sum(int(line) for line in open("/mnt/data/numbers.csv"))
open("/workspace/result.txt", "w").write(str(total * factor))
for path in ("/mnt/data/numbers.csv", "/etc/app/config.json"):
    try: open(path, "w"); print("written")
    except OSError as e: print(e.strerror)`).Output()
	if want := strings.Repeat("Read-only file system\n", 2); err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
	got, err := os.ReadFile(filepath.Join(results, "result.txt"))
	if err != nil || string(got) != "84" {
		t.Errorf("result on the host: got %q, %v, want 84", got, err)
	}
	// What is copied goes through mounts as it goes through directories.
	if err := b.CopyIn(t.Context(), config, "/workspace/copied.json"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(results, "copied.json")); err != nil || string(got) != `{"factor": 2}` {
		t.Errorf("copied into a volume: got %q, %v", got, err)
	}
	if got, err := b.ReadFile(t.Context(), "/mnt/data/numbers.csv"); err != nil || string(got) != "1\n2\n39\n" {
		t.Errorf("read from a volume: got %q, %v", got, err)
	}
}

// TestBoxesShareANamedVolume has several write at once, one after the other's
// end read, and the volume outlast them all.
func TestBoxesShareANamedVolume(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	v, err := rt.Volumes().Create(t.Context(), "shared")
	if err != nil {
		t.Fatal(err)
	}
	var boxes []*boxlite.Box
	for range 3 {
		boxes = append(boxes, boxtest.Box(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{{Name: "shared", Guest: "/data"}}}))
	}
	for _, b := range boxes {
		boxtest.Sh(t, b, "hostname > /data/$(hostname); echo own > /own")
	}
	for _, b := range boxes {
		for _, other := range boxes {
			if got, want := boxtest.Sh(t, b, "cat /data/"+other.ID()), other.ID()+"\n"; got != want {
				t.Errorf("what %s wrote, in %s: got %q, want %q", other.ID(), b.ID(), got, want)
			}
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	// The volume is the host's, the rest is the box's: both are there again.
	if err := boxes[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, want := boxtest.Sh(t, boxes[0], "cat /own /data/"+boxes[1].ID()), "own\n"+boxes[1].ID()+"\n"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
	for _, b := range boxes {
		if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := rt.Volumes().Inspect(t.Context(), "shared"); err != nil || info.Size == 0 || len(info.Boxes) > 0 {
		t.Errorf("volume after its boxes: got %+v, %v, want it with what they wrote", info, err)
	}
	if err := rt.Volumes().Remove(t.Context(), "shared"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(v.Path); err == nil {
		t.Errorf("%s is there after its removal", v.Path)
	}
}

// TestVolumesOfTheProgram does the same by the command line, as root and as a
// user who is nothing else, and looks whose the files are.
func TestVolumesOfTheProgram(t *testing.T) {
	testenv.NeedGVisor(t)
	users := map[string][]string{"as the user of the test": nil}
	if os.Geteuid() == 0 {
		users["as an ordinary user"] = setpriv
	}
	for name, as := range users {
		t.Run(name, func(t *testing.T) {
			dir := userDir(t)
			uid := os.Geteuid()
			if as != nil {
				uid = 1500
			}
			work, foreign := filepath.Join(dir, "work"), filepath.Join(dir, "foreign")
			for _, d := range []string{work, foreign} {
				if err := os.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chown(work, uid, uid); err != nil {
				t.Fatal(err)
			}
			if os.Geteuid() == 0 {
				if err := os.Chown(foreign, 1234, 1234); err != nil {
					t.Fatal(err)
				}
			}
			run := func(args ...string) (string, error) {
				full := append(append([]string{}, as...), append([]string{filepath.Join(dir, "boxlite")}, args...)...)
				cmd := exec.CommandContext(t.Context(), full[0], full[1:]...)
				var out bytes.Buffer
				cmd.Dir, cmd.Stdout, cmd.Stderr = work, &out, &out
				cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
				err := cmd.Run()
				return out.String(), err
			}
			must := func(args ...string) string {
				t.Helper()
				out, err := run(args...)
				if err != nil {
					t.Fatalf("%q: %v\n%s", args, err, out)
				}
				return out
			}
			must("load", "-i", filepath.Join(dir, "alpine.tar"))
			if got, want := must("run", "-v", "./:/work", "alpine:latest", "sh", "-c", `
				cd /work; echo made > file; mkdir dir; ln -s file link; ln file hard; chown 33:33 file; chmod 6755 file
				stat -c '%n %u:%g %a' file dir link`), "file 0:0 755\ndir 0:0 755\nlink 0:0 777\n"; got != want {
				t.Errorf("in the box: got %q, want %q", got, want)
			}
			must("run", "-u", "1000", "-v", work+":/work:ro", "alpine:latest", "cat", "/work/file")
			for _, name := range []string{"file", "dir", "link", "hard"} {
				st, err := os.Lstat(filepath.Join(work, name))
				if err != nil {
					t.Fatal(err)
				}
				sys := st.Sys().(*syscall.Stat_t)
				if int(sys.Uid) != uid || int(sys.Gid) != uid || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
					t.Errorf("%s on the host: got %d:%d %v, want them of user %d", name, sys.Uid, sys.Gid, st.Mode(), uid)
				}
			}
			// Rights of the host go on to count: those of whoever runs it.
			_, err := run("run", "-v", foreign+":/v", "alpine:latest", "sh", "-c", "> /v/f")
			if as != nil && err == nil {
				t.Error("directory of another user: got written, want a refusal by the host")
			}
			if as == nil && err != nil {
				t.Errorf("directory of another user, as root: %v", err)
			}
			must("volume", "create", "kept")
			must("run", "-v", "kept:/data", "alpine:latest", "sh", "-c", "mkdir -m 0 /data/closed /data/closed2; echo 1 > /data/f; chmod 0 /data/f; chmod 0 /data")
			if got := must("run", "-v", "kept:/data", "alpine:latest", "cat", "/data/f"); got != "1\n" {
				t.Errorf("file of mode 0 in the next box: got %q, want it read by root", got)
			}
			if out := must("volume", "rm", "kept"); out != "kept\n" {
				t.Errorf("volume rm: got %q", out)
			}
			if out := must("volume", "ls", "-q"); out != "" {
				t.Errorf("volumes after rm: got %q, want none", out)
			}
		})
	}
}

// TestBadMountPointsAreSaid are those that only the image can show.
func TestBadMountPointsAreSaid(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, v := range map[string]boxlite.Volume{
		"on /etc: it is a file, and the box has a directory there; choose":        {Host: file, Guest: "/etc"},
		"on /etc/passwd: it is a directory, and the box has a file there; choose": {Host: dir, Guest: "/etc/passwd"},
		"on /etc/passwd/x: not a directory; choose":                               {Host: dir, Guest: "/etc/passwd/x"},
	} {
		b := boxtest.Box(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{v}})
		if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("volume %s: got %v, want %q", v, err, want)
		}
	}
}

// TestToolsWorkInAVolume uses it as agents do: repositories, databases,
// archives, environments, many files at once.
func TestToolsWorkInAVolume(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Dev)
	dir := t.TempDir()
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev, MemoryMiB: 1024, Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}}})
	for what, tt := range map[string]struct{ script, want string }{
		"git": {`git init -q repo && cd repo && git config user.email a@b && git config user.name a
			for i in $(seq 50); do echo $i > f$i; done; git add . && git commit -qm one && git rm -q f1 && git commit -qm two
			cd .. && git clone -q repo clone && cd clone && git fsck 2>&1 | grep -v notice; git log --oneline | wc -l; ls | wc -l`, "2\n49\n"},
		"sqlite": {`python3 -c '
import sqlite3, threading
def fill(n):
    c = sqlite3.connect("db", timeout=60)
    for i in range(50):
        with c: c.execute("insert into t values (?)", (n * 50 + i,))
c = sqlite3.connect("db")
c.execute("pragma journal_mode=wal") # once: nobody waits for the lock of this
c.execute("create table t(x)")
ts = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
c = sqlite3.connect("db")
print(c.execute("select count(*) from t").fetchone()[0], c.execute("pragma integrity_check").fetchone()[0])'`, "200 ok\n"},
		"tar": {
			`mkdir src && echo x > src/f && chmod 4750 src/f && ln src/f src/h && ln -s f src/l && tar --owner=1234 --group=1234 -cf a.tar src && mkdir out && tar -xpf a.tar -C out && stat -c "%n %a %h" out/src/f out/src/h && cat out/src/l`,
			"out/src/f 750 2\nout/src/h 750 2\nx\n",
		},
		"venv":       {`python3 -m venv --without-pip env && env/bin/python -c 'import sys; print(sys.prefix)'`, "/v/venv/env\n"},
		"program":    {`printf '#!/bin/sh\necho run\n' > prog && chmod +x prog && ./prog && cp /bin/true t && ./t && echo "$?"`, "run\n0\n"},
		"open files": {`python3 -c 'fs = [open(f"many{i}", "w+") for i in range(3000)]; [f.write(str(i)) for i, f in enumerate(fs)]; [f.close() for f in fs]; print(sum(int(open(f"many{i}").read()) for i in range(3000)))'; rm many*`, "4498500\n"},
		"deleted":    {`exec 3<>gone; rm gone; echo kept >&3; cat /proc/self/fd/3; ls gone 2>/dev/null | wc -l`, "kept\n0\n"},
		"mmap": {`python3 -c '
import mmap
open("m", "wb").write(b"a" * 8192)
f = open("m", "r+b"); m = mmap.mmap(f.fileno(), 0); m[4096:4100] = b"mmap"; m.flush(); m.close()
print(open("m", "rb").read()[4094:4102])'`, "b'aammapaa'\n"},
		"long names": {`d=$(printf 'x%.0s' $(seq 255)); mkdir $d && cd $d && mkdir -p $d/$d/$d && echo deep > $d/$d/$d/f && cat $d/$d/$d/f; touch ${d}y 2>&1 | grep -c "too long"`, "deep\n1\n"},
		"sparse":     {`truncate -s 1T big && stat -c %s big && echo end | dd of=big bs=1 seek=1099511627770 conv=notrunc 2>/dev/null && tail -c 6 big | head -c 4 && rm big`, "1099511627776\nend\n"},
	} {
		if got := boxtest.Sh(t, b, "mkdir '/v/"+what+"' && cd '/v/"+what+"'; "+tt.script); got != tt.want {
			t.Errorf("%s: got %q, want %q", what, got, tt.want)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "-C", filepath.Join(dir, "git", "repo"), "fsck").CombinedOutput(); err != nil {
		t.Errorf("repository on the host: %v\n%s", err, out)
	}
}

// TestVolumeMayBeLargerThanMemory writes more than the box may have in memory.
func TestVolumeMayBeLargerThanMemory(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{MemoryMiB: 64, Volumes: []boxlite.Volume{{Host: t.TempDir(), Guest: "/v"}}})
	if got, want := boxtest.Sh(t, b, "dd if=/dev/zero of=/v/big bs=1M count=512 2>/dev/null; wc -c < /v/big; rm /v/big"), "536870912\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
