package crash

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// smallDisk puts the disk of a box that has not been started on a file system
// of its own, of 32 MiB.
func smallDisk(t *testing.T, home string, b *boxlite.Box) (dir string) {
	t.Helper()
	dir = filepath.Join(home, "boxes", b.ID(), "disk")
	if err := unix.Mount("boxlite-test", dir, "tmpfs", 0, "size=32m,mode=700"); err != nil {
		testenv.Missing(t, "mounts", "needs root, to mount a small file system: "+err.Error())
	}
	t.Cleanup(func() {
		boxtest.Eventually(t, 10*time.Second, "nobody uses the small file system", func() bool {
			return unix.Unmount(dir, 0) == nil
		})
	})
	return dir
}

// fill leaves nothing free where dir is, until the file is removed.
func fill(t *testing.T, dir string) (remove func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	junk := make([]byte, 4096)
	for rand.Read(junk); err == nil; _, err = f.Write(junk) {
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSaveOntoAFullHostDisk keeps the layer of before, goes on, and tells.
func TestSaveOntoAFullHostDisk(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	b, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: boxtest.Alpine, SaveInterval: time.Second / 5})
	if err != nil {
		t.Fatal(err)
	}
	dir := smallDisk(t, home, b)
	t.Cleanup(func() {
		if err := b.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	info := func() boxlite.BoxInfo {
		t.Helper()
		i, err := b.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	write := func(word string) { // in place, so that it needs no more room in the box
		boxtest.Sh(t, b, "yes "+word+" | head -c 8388608 | dd of=/file conv=notrunc 2>/dev/null; echo "+word+" >/word")
	}
	write("one")
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty := fill(t, dir)
	write("two")
	if err := b.Sync(t.Context()); !errors.Is(err, boxlite.ErrExhausted) || !strings.Contains(err.Error(), "last save are kept") {
		t.Errorf("Sync onto a full disk: got %v, want %v, and that the last save is kept", err, boxlite.ErrExhausted)
	}
	boxtest.Eventually(t, time.Minute, "a save by itself has failed", func() bool {
		return strings.Contains(info().SaveError, "no space left")
	})
	log, err := os.ReadFile(filepath.Join(home, "boxes", b.ID(), "logs", "shim.log"))
	if err != nil || strings.Count(string(log), "no space left") == 0 {
		t.Errorf("log of the box: got %q, %v, want the failure", log, err)
	}
	if got := boxtest.Sh(t, b, "cat /word"); got != "two\n" {
		t.Errorf("box after failed saves: got %q, want that it goes on", got)
	}
	empty()
	boxtest.Eventually(t, time.Minute, "it is saved again", func() bool { return info().SaveError == "" })

	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	empty = fill(t, dir)
	write("three")
	if err := b.Stop(t.Context()); !errors.Is(err, boxlite.ErrExhausted) {
		t.Errorf("Stop onto a full disk: got %v, want %v", err, boxlite.ErrExhausted)
	}
	if i := info(); i.State != boxlite.StateFailed || !strings.Contains(i.Reason, "could not be saved") || i.SaveError == "" {
		t.Errorf("afterwards: got %s, %q, %q, want failed, and why", i.State, i.Reason, i.SaveError)
	}
	empty()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := boxtest.Sh(t, b, "cat /word; head -n 1 /file; sort -u /file | wc -l"); !strings.HasPrefix(got, "two\ntwo\n") {
		t.Errorf("files after a stop that could not save: got %q, want those of the last save", got)
	}
}
