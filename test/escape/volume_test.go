package escape

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// readOnlyAttempts tries, as root of a box, everything that would change a
// read-only volume, and prints what did not fail.
//
//go:embed testdata/readonly.py
var readOnlyAttempts string

// shared makes a directory to be mounted, with files in it.
func shared(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "d", "e"), 0o755),
		os.WriteFile(filepath.Join(dir, "f"), []byte(strings.Repeat("content ", 1024)), 0o644),
		os.WriteFile(filepath.Join(dir, "d", "g"), []byte("content"), 0o4755),
		os.Symlink("f", filepath.Join(dir, "l")),
		unix.Setxattr(filepath.Join(dir, "f"), "user.mine", []byte("1"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// everything describes all that a tree of the host is, times of reading aside.
func everything(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		st.Atim, st.Blocks = unix.Timespec{}, 0 // blocks are given late
		fmt.Fprintf(&all, "%s %+v", path, st)
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			names := make([]byte, 4096)
			n, _ := unix.Llistxattr(path, names)
			value := make([]byte, 4096)
			m, _ := unix.Lgetxattr(path, "user.mine", value)
			fmt.Fprintf(&all, " %x %q %q", sha256.Sum256(b), names[:max(n, 0)], value[:max(m, 0)])
		}
		all.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestReadOnlyVolumeHoldsForRoot tries all that root of a box can.
func TestReadOnlyVolumeHoldsForRoot(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Python)
	dir := shared(t)
	before := everything(t, dir)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Volumes: []boxlite.Volume{
		{Host: dir, Guest: "/ro", ReadOnly: true},
		{Host: filepath.Join(dir, "f"), Guest: "/single", ReadOnly: true},
	}})
	for i := range 2 { // and once more after a restart
		c := b.Command(t.Context(), "python3", "-", "/ro/f", "/ro/d/g", "/single")
		c.Stdin = strings.NewReader(readOnlyAttempts)
		out, err := c.CombinedOutput()
		if err != nil || !strings.HasSuffix(string(out), "tried\n") {
			t.Fatalf("the script: %v\n%s", err, out)
		}
		if done := strings.TrimSuffix(string(out), "tried\n"); done != "" {
			t.Errorf("these did not fail:\n%s", done)
		}
		if after := everything(t, dir); after != before {
			t.Fatalf("on the host, round %d: got\n%swant\n%s", i, after, before)
		}
		if err := errors.Join(b.Stop(t.Context()), b.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadOnlyVolumeHoldsInANamespace remounts it writable where root of a box
// may: the box's own kernel then knows nothing of read-only any more.
func TestReadOnlyVolumeHoldsInANamespace(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Dev)
	dir := shared(t)
	before := everything(t, dir)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev, Volumes: []boxlite.Volume{
		{Host: dir, Guest: "/ro", ReadOnly: true},
		{Host: filepath.Join(dir, "f"), Guest: "/single", ReadOnly: true},
	}})
	out, err := b.Command(t.Context(), "unshare", "-Urm", "sh", "-c", `
		mount -o remount,rw /ro; mount -o remount,bind,rw /ro; mount -o remount,rw,bind /single
		mkdir /tmp/m; mount --bind /ro /tmp/m; mount -o remount,bind,rw /tmp/m
		for d in /ro /tmp/m; do
			(echo x > $d/f) && echo wrote; (echo x > $d/n) && echo made; rm -f $d/f && [ ! -e $d/f ] && echo removed
			mv $d/d $d/m && echo moved; mkdir $d/n && [ -d $d/n ] && echo directory; ln $d/f $d/h && echo linked
			chmod 777 $d/f && echo chmod; touch -d 2001-01-01 $d/f && echo touched
		done
		(echo x > /single) && echo single
		true`).CombinedOutput()
	if err != nil {
		t.Errorf("the script: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	if after := everything(t, dir); after != before {
		t.Errorf("on the host: got\n%swant\n%s", after, before)
	}
}

// raceTime is how long the races run: long enough to find what they are after,
// or as long as the one who tests has time.
func raceTime() time.Duration {
	if boxtest.Long() {
		return time.Minute
	}
	return 4 * time.Second
}

// races replace names while they are looked up, as fast as they can.
//
//go:embed testdata/race.py
var races string

// TestRacesDoNotLeadOutOfAVolume runs them in two volumes that overlap, with
// canaries outside of both.
func TestRacesDoNotLeadOutOfAVolume(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Python)
	for _, race := range []string{"directory", "file", "moves", "links"} {
		t.Run(race, func(t *testing.T) {
			t.Parallel()
			top, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			dir, outside := filepath.Join(top, "volume"), filepath.Join(top, "outside")
			const secret = "a canary of the host\n"
			for _, err := range []error{
				os.MkdirAll(filepath.Join(dir, "a", "b", "c"), 0o777), os.Mkdir(filepath.Join(dir, "dir"), 0o777), os.Mkdir(outside, 0o777),
				os.WriteFile(filepath.Join(dir, "f"), []byte("of the box\n"), 0o666),
				os.WriteFile(filepath.Join(outside, "canary"), []byte(secret), 0o666),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			before := everything(t, outside)
			b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Volumes: []boxlite.Volume{
				{Host: dir, Guest: "/v"}, {Host: filepath.Join(dir, "a"), Guest: "/v/a"}, {Host: dir, Guest: "/w"},
			}})
			raceFor(t, b, raceTime(), race, outside)
			if after := everything(t, outside); after != before {
				t.Errorf("outside of the volume: got\n%swant\n%s", after, before)
			}
			if names, err := os.ReadDir(top); err != nil || len(names) != 2 {
				t.Errorf("beside the volume: got %v, %v, want nothing new", names, err)
			}
		})
	}
}

// raceFor runs a race until its time is up. When one name is made and removed
// through several mounts at once, gVisor's kernel may come upon a state that it
// takes for impossible, and end its box. That harms nobody else; the race goes
// on in the box started again.
func raceFor(t *testing.T, b *boxlite.Box, d time.Duration, race, outside string) {
	t.Helper()
	for end := time.Now().Add(d); time.Until(end) > 0; {
		c := b.Command(t.Context(), "python3", "-", race, outside)
		c.Stdin = strings.NewReader(races)
		c.Timeout = time.Until(end)
		out, err := c.Output()
		if len(out) > 0 {
			t.Errorf("the box has read the canary: %s", out)
		}
		exit, _ := errors.AsType[*boxlite.ExitError](err)
		switch {
		case errors.Is(err, boxlite.ErrBoxDied) && strings.Contains(exit.Reason, "cacheNewChildLocked collision"):
			t.Logf("the box ended %v before its time", time.Until(end))
		case exit == nil || exit.Cause != boxlite.CauseTimeout:
			t.Fatalf("the race: got %v, want it to run until it is stopped", err)
		default:
			t.Logf("rounds of each loop: %s", strings.Fields(boxtest.Sh(t, b, "cd /tmp; for f in *; do echo $f $(cat $f); done")))
		}
	}
}

// TestHostLinksOutOfAVolumeAreTheBoxs: what they point at is looked for in the
// box.
func TestHostLinksOutOfAVolumeAreTheBoxs(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	dir, outside := shared(t), shared(t)
	before := everything(t, outside)
	for name, to := range map[string]string{
		"absolute": filepath.Join(outside, "f"), "relative": "../../../../../../../.." + outside + "/f", "passwd": "/etc/passwd", "dir": outside,
		"root": "/proc/self/root" + outside + "/f", "cwd": "/proc/self/cwd/../../../../.." + outside + "/f", "one": "/proc/1/root" + outside + "/f",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}}})
	out, _ := b.Command(t.Context(), "sh", "-c", `cd /v
		for l in absolute relative root cwd one dir/f dir/d/g; do cat $l; echo x > $l; chmod 777 $l; rm -rf $l/; done
		mkdir dir/n; ln f dir/h; cat passwd`).CombinedOutput()
	if strings.Contains(string(out), "content") {
		t.Errorf("links out of a volume: got\n%s\nwant nothing of the host", out)
	}
	if !strings.Contains(string(out), "root:") {
		t.Errorf("link to /etc/passwd: got %q, want the box's", out)
	}
	if after := everything(t, outside); after != before {
		t.Errorf("where the links point on the host: got\n%swant\n%s", after, before)
	}
}

// TestSocketsOfTheHostAreOutOfReach lays a socket, a FIFO and a device into a
// volume: the classic ways out of a container.
func TestSocketsOfTheHostAreOutOfReach(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Python)
	dir, err := os.MkdirTemp("", "v") // short: a socket's address is
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan struct{})
	go func() { // ends with the listener
		if c, err := l.Accept(); err == nil {
			c.Close()
			close(reached)
		}
	}()
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o666); err != nil {
		t.Fatal(err)
	}
	devices := "0"
	if os.Geteuid() == 0 {
		devices = "1"
		if err := errors.Join(syscall.Mknod(filepath.Join(dir, "disk"), syscall.S_IFBLK|0o666, 8<<8),
			syscall.Mknod(filepath.Join(dir, "mem"), syscall.S_IFCHR|0o666, 1<<8|1)); err != nil {
			t.Fatal(err)
		}
	}
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}, {Host: dir, Guest: "/ro", ReadOnly: true}}})
	c := b.Command(t.Context(), "python3", "-c", `
import os, socket, sys
def attempt(what, f):
    try: f(); print(what, "worked")
    except OSError: pass
for d in ("/v", "/ro"):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        attempt(d + " connect", lambda: socket.socket(socket.AF_UNIX, kind).connect(d + "/sock"))
    attempt(d + " fifo read", lambda: os.open(d + "/fifo", os.O_RDONLY | os.O_NONBLOCK))
    attempt(d + " fifo", lambda: os.open(d + "/fifo", os.O_RDWR | os.O_NONBLOCK))
    if "1" in sys.argv:
        attempt(d + " disk", lambda: os.open(d + "/disk", os.O_RDONLY))
        attempt(d + " memory", lambda: os.open(d + "/mem", os.O_RDONLY))
attempt("mknod", lambda: os.mknod("/v/null", 0o20666, os.makedev(1, 3)))
attempt("mknod", lambda: os.mknod("/v/disk2", 0o60666, os.makedev(8, 0)))
try:  # such a socket is the box's alone
    s = socket.socket(socket.AF_UNIX); s.bind("/v/own")
except OSError: pass
`, devices)
	if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("got %q, %v, want nothing to work", out, err)
	}
	select {
	case <-reached:
		t.Error("the box has connected to a socket of the host")
	default:
	}
	for _, name := range []string{"null", "disk2", "own"} {
		if st, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			t.Errorf("the box has made %s, a %v, on the host", name, st.Mode())
		}
	}
}

// TestAVolumeIsAllTheFileServerSees looks at it from the host.
func TestAVolumeIsAllTheFileServerSees(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	dir := shared(t)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}, {Host: filepath.Join(dir, "f"), Guest: "/f"}}})
	boxtest.Sh(t, b, "cat /v/f >/dev/null")
	pid := boxtest.Gofer(t, b)
	got := status(t, pid)
	for field, want := range map[string]string{"NoNewPrivs": "1", "Seccomp": "2"} {
		if got[field] != want {
			t.Errorf("%s of the file server: got %q, want %q", field, got[field], want)
		}
	}
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/root", pid))
	if err != nil || len(names) != 2 {
		t.Errorf("its root: got %v, %v, want the two volumes", names, err)
	}
	for _, file := range open(t, pid) {
		if strings.HasPrefix(file, home) {
			t.Errorf("it has %s of the home open", file)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if boxtest.Alive(pid) {
		t.Error("it lives on after the box was stopped")
	}
}
