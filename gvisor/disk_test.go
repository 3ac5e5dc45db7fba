package gvisor_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// change makes one of everything a layer can hold.
const change = `
umask 0
cd /root
echo text > file; chmod 4750 file; chown 12:34 file
ln file hard; ln -s file sym
ln -s /nowhere/$(printf %0300d 1) dangling
mkdir -p dir/sub; chmod 1777 dir; chown 5:6 dir/sub
mkfifo fifo; mknod char c 1 3; mknod block b 7 1
for n in "new
line" "$(printf 'bytes\377')" "./-dash" "sp ace" "é" "eq=ual" "$(printf 'ctl\001')"; do echo "$n" > "$n"; done
long=$(printf %0250d 2); mkdir -p $long/$long/$long/$long; echo deep > $long/$long/$long/$long/file
truncate -s 5g sparse; echo end | dd of=sparse bs=1 seek=3000000000 conv=notrunc 2>/dev/null
dd if=/dev/urandom of=random bs=1M count=20 2>/dev/null
: > empty
touch -d "2001-02-03 04:05:06" dir/old
rm /lower/deleted; rm -r /lower/gone
rm -r /lower/dir; mkdir /lower/dir; echo new > /lower/dir/new
echo more >> /lower/changed; chmod 600 /lower/kept
echo tmp > /tmp/file; echo shm > /dev/shm/file
`

// show prints all of it.
const show = `
cd /root
find . /lower /tmp ! -path ./sparse | sort
find . /lower /tmp ! -path ./sparse -exec stat -c '%n %f %u %g %h %t,%T' {} + | sort
find . /lower /tmp -type f ! -path ./sparse -exec md5sum {} + | sort
readlink sym; readlink dangling
stat -c '%s' sparse; dd if=sparse bs=1 skip=2999999998 count=6 2>/dev/null | od -c
stat -c %Y dir/old
ls /dev/shm
`

func TestDiskSurvivesRestart(t *testing.T) {
	m, s := boot(t)
	sh(t, m, change)
	want := strings.TrimSuffix(sh(t, m, show), "file\n") // /dev/shm is not kept
	saveAndStop(t, m)
	for range 2 { // what was restored is saved as well as what was made
		m = start(t, s)
		if got := sh(t, m, show); got != want {
			t.Fatalf("after restart: got\n%s\nwant\n%s", got, want)
		}
		saveAndStop(t, m)
	}
	m = start(t, s)
	if got, want := sh(t, m, "echo linked >> /root/hard; cat /root/file"), "text\nlinked\n"; got != want {
		t.Errorf("write through a hard link: got %q, want %q", got, want)
	}
}

func TestUnsavedChangesAreLost(t *testing.T) {
	m, s := boot(t)
	sh(t, m, "echo 1 > /root/saved")
	save(t, m)
	sh(t, m, "echo 2 > /root/lost")
	stop(t, m)
	m = start(t, s)
	if got, want := sh(t, m, "ls /root"), "saved\n"; got != want {
		t.Errorf("after a stop without a save: got %q, want %q", got, want)
	}
}

// TestSaveOfTheSameIsNone also shows what counts as a change.
func TestSaveOfTheSameIsNone(t *testing.T) {
	m, s := boot(t)
	sh(t, m, "cd /root; for i in $(seq 200); do echo $i >f$i; done; mkdir d; mkfifo p; echo x >$(printf %0200d 1)")
	saveIt(t, m)
	saved := disk(t, s.Disk)
	for range 3 {
		if got := saveIt(t, m); !got.Unchanged {
			t.Error("save of a box at rest: got a change, want none")
		}
	}
	sh(t, m, "cat /root/f1 >/dev/null; ls -R /root >/dev/null")
	if got := saveIt(t, m); !got.Unchanged {
		t.Error("save after reading: got a change, want none")
	}
	if now := disk(t, s.Disk); now != saved {
		t.Errorf("disk after saves of the same: got\n%s\nwant\n%s", now, saved)
	}
	for _, change := range []string{
		"chmod 600 /root/f1", "chown 5 /root/f2", "mv /root/f3 /root/g3", "mkdir /root/e", "rmdir /root/e",
		"ln /root/f4 /root/h4", "ln -s f4 /root/s4", "touch -d '2001-01-01 00:00:00' /root/f5", "rm /root/f6",
		"rm /lower/deleted", "echo y >/root/f7", "truncate -s 1000000000 /root/f8", "echo z | dd of=/root/f9 conv=notrunc 2>/dev/null",
	} {
		sh(t, m, change)
		if got := saveIt(t, m); got.Unchanged {
			t.Errorf("save after %q: got no change, want one", change)
		}
	}
}

// disk lists a disk with sizes.
func disk(tb testing.TB, dir string) string {
	tb.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err == nil && !d.IsDir() {
			fmt.Fprintln(&out, path, fi.Size(), fi.ModTime())
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out.String()
}

// TestActivity is what tells a box at rest from one that may have changed.
func TestActivity(t *testing.T) {
	testenv.NeedGVisor(t)
	m := start(t, spec(t))
	d := m.(engine.DiskSaver)
	before := d.Activity()
	if before == 0 {
		t.Skip("needs a kernel that accounts for the time of threads (CONFIG_SCHED_INFO)")
	}
	sh(t, m, "true")
	if after := d.Activity(); after == before {
		t.Error("activity after a command: got the same as before")
	}
}

func TestSaveWhileRunning(t *testing.T) {
	testenv.NeedGVisor(t)
	m := start(t, spec(t))
	sh(t, m, "setsid sh -c 'i=0; while :; do i=$((i+1)); echo $i >> /root/log; done' >/dev/null 2>&1 &")
	for range 5 {
		save(t, m)
		sh(t, m, "true")
	}
	before := sh(t, m, "wc -l < /root/log")
	sh(t, m, "usleep 20000")
	if after := sh(t, m, "wc -l < /root/log"); after == before {
		t.Error("a command in the background does not go on after a save")
	}
}

// TestDiskIsFull fills a disk in several ways: the box is told, and the host
// keeps no more than it was to.
func TestDiskIsFull(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.DiskSize = 16 << 20
	m := start(t, s)
	for _, way := range []struct{ name, script string }{
		{"one file", "head -c 20000000 /dev/zero | tr '\\0' x >/root/f"},
		{"small files", "for i in $(seq 4500); do echo $i >/root/f$i; done"},
		{"a sparse file", "truncate -s 1000000000000 /root/s && head -c 20000000 /dev/zero | tr '\\0' x | dd of=/root/s bs=4096 seek=100000 conv=notrunc"},
		{"a file that grows by truncation", "for i in 1 2 3 4 5 6 7 8; do head -c 3000000 /dev/zero | tr '\\0' x >>/root/f; truncate -s ${i}000000000 /root/f; done"},
	} {
		out := sh(t, m, "("+way.script+"); df -k / | tail -1 | tr -s ' ' | cut -d' ' -f4")
		if !strings.Contains(out, "No space left on device") {
			t.Errorf("%s: got %q, want no space left on device", way.name, out)
		}
		if used := dataOf(t, m, s.Disk); used > s.DiskSize {
			t.Errorf("%s: the host keeps %d bytes of a disk of %d", way.name, used, s.DiskSize)
		}
		save(t, m)
		want := sh(t, m, "ls /root | wc -l; cat /root/* | head -c 100000 | md5sum")
		stop(t, m)
		m = start(t, s) // as full as it was
		if got := sh(t, m, "ls /root | wc -l; cat /root/* | head -c 100000 | md5sum"); got != want {
			t.Errorf("%s, after a restart: got %q, want %q", way.name, got, want)
		}
		if got := sh(t, m, "rm -rf /root/*; echo y >/root/y; cat /root/y; rm /root/y"); got != "y\n" {
			t.Errorf("%s, and with room again: got %q, want %q", way.name, got, "y\n")
		}
	}
}

// dataOf is how much the files in a running machine take of the host's disk:
// what they hold, without the blocks in which a file system notes where that
// is, which st_blocks of a file in many pieces counts as well.
func dataOf(tb testing.TB, m engine.Machine, dir string) int64 {
	tb.Helper()
	fds := fmt.Sprintf("/proc/%d/fd/", sentry(tb, m))
	entries, err := os.ReadDir(fds)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		if to, _ := os.Readlink(fds + e.Name()); strings.HasPrefix(to, dir) {
			return held(tb, fds+e.Name())
		}
	}
	tb.Fatalf("the sentry has no file in %s", dir)
	return 0
}

// held is the size of a file without its holes.
func held(tb testing.TB, path string) (n int64) {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	for at := int64(0); ; {
		from, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // no data after this
			return n
		}
		if err != nil {
			tb.Fatal(err)
		}
		if at, err = unix.Seek(int(f.Fd()), from, unix.SEEK_HOLE); err != nil {
			tb.Fatal(err)
		}
		n += at - from
	}
}

// TestManyFiles fills a box with files until there are too many: whatever was
// saved can be started again, and the end is told.
func TestManyFiles(t *testing.T) {
	testenv.NeedGVisor(t)
	s := spec(t)
	s.Memory = 64 << 20
	m := start(t, s)
	fill := func(m engine.Machine, dir string) {
		t.Helper()
		sh(t, m, "mkdir /root/"+dir+"; cd /root/"+dir+"; i=0; while [ $i -lt 10000 ]; do : > f$i || exit 1; i=$((i+1)); done")
	}
	for _, dir := range []string{"a", "b", "c"} {
		fill(m, dir)
		save(t, m)
	}
	stop(t, m)
	m = start(t, s) // now with room for the tree it has
	for _, dir := range []string{"d", "e"} {
		fill(m, dir)
	}
	if _, err := m.(engine.DiskSaver).SaveDisk(t.Context()); err == nil || !strings.Contains(err.Error(), "too many files") {
		t.Errorf("save of 50000 files in a box of 64 MiB: got %v, want too many files", err)
	}
	sh(t, m, "rm -r /root/e")
	saveAndStop(t, m)
	if got, want := sh(t, start(t, s), "ls /root; ls /root/a /root/b /root/c /root/d | wc -l"), "a\nb\nc\nd\n40007\n"; got != want {
		t.Errorf("after all that: got %q, want %q", got, want)
	}
}

// save saves the disk of m.
func save(tb testing.TB, m engine.Machine) {
	tb.Helper()
	saveIt(tb, m)
}

// saveIt saves the disk of m and says what that was like.
func saveIt(tb testing.TB, m engine.Machine) engine.Saved {
	tb.Helper()
	s, err := m.(engine.DiskSaver).SaveDisk(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// saveAndStop is what the end of a box is.
func saveAndStop(tb testing.TB, m engine.Machine) {
	tb.Helper()
	save(tb, m)
	stop(tb, m)
}

// stop stops m in good order.
func stop(tb testing.TB, m engine.Machine) {
	tb.Helper()
	if err := m.Stop(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	if err := m.Err(); err != nil {
		tb.Fatalf("Err after Stop: got %v, want nil", err)
	}
}

// names lists a directory.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}
