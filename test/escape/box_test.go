package escape

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// dockerCapabilities is the set that Docker gives by default, as
// /proc/self/status shows it.
const dockerCapabilities = "00000000a80425fb"

func TestRootHasDockersCapabilities(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{})
	for line := range strings.Lines(boxtest.Sh(t, b, "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status")) {
		if !strings.Contains(line, dockerCapabilities) {
			t.Errorf("got %q, want %s", line, dockerCapabilities)
		}
	}
	if got := boxtest.Sh(t, b, "grep -E 'Cap(Inh|Amb)' /proc/self/status | grep -vc 0000000000000000 || true"); got != "0\n" {
		t.Errorf("inheritable or ambient sets that are not empty: got %q, want 0", got)
	}
}

// TestNothingOfTheHostIsVisible plants things on the host and looks for them.
func TestNothingOfTheHostIsVisible(t *testing.T) {
	t.Setenv("BOXLITE_CANARY", "canary-in-the-environment")
	rt, home := boxtest.New(t, boxtest.Alpine)
	canary := filepath.Join(t.TempDir(), "canary-of-the-host")
	if err := os.WriteFile(canary, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := boxtest.Box(t, rt, boxlite.BoxOptions{})
	for what, script := range map[string]string{
		"a file of the host":    "cat " + canary,
		"the home":              "ls " + home,
		"its environment":       "cat /proc/*/environ /proc/self/environ | grep canary",
		"its processes":         `[ $(ls -d /proc/[0-9]* | wc -l) -gt 10 ]`,
		"a network":             "ls /sys/class/net | grep -v lo",
		"a second descriptor":   "ls /proc/self/fd | grep -qE '^([4-9]|1[0-9])$'",
		"disks":                 "ls /dev | grep -E '^(sd|vd|nvme|loop|kvm|mem|kmsg)'",
		"the machine's own end": "ls -la /proc/1/fd/ && readlink /proc/1/fd/3",
	} {
		if out, err := b.Command(t.Context(), "sh", "-c", script).CombinedOutput(); err == nil {
			t.Errorf("%s: got\n%s", what, out)
		}
	}
}

// TestAnImageIsSharedButNotWritable changes it in one box and looks from
// another, and at the file itself.
func TestAnImageIsSharedButNotWritable(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	one := boxtest.Box(t, rt, boxlite.BoxOptions{})
	boxtest.Sh(t, one, "true")
	before := hashes(t, home)
	boxtest.Sh(t, one, "echo gone > /etc/passwd; rm -f /bin/ls; echo x > /etc/hostname; mkdir /bin/new")
	other := boxtest.Box(t, rt, boxlite.BoxOptions{})
	if got := boxtest.Sh(t, other, "cat /etc/passwd; ls /bin/ls; [ ! -e /bin/new ]"); !strings.Contains(got, "root:") {
		t.Errorf("seen from another box: got %q, want the image as it was", got)
	}
	if after := hashes(t, home); after != before {
		t.Errorf("image files: got %s, want %s", after, before)
	}
}

func hashes(t *testing.T, home string) (all string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "images", "rootfs", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("image files: got %v, %v, want some", files, err)
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		all += fmt.Sprintf("%x ", h.Sum(nil))
	}
	return all
}

// TestAttackOnTheAgent lets root in the box do its worst to PID 1. Whatever
// comes of it, the box either goes on or is known to have died, and can be
// stopped and removed in time.
func TestAttackOnTheAgent(t *testing.T) {
	for name, script := range map[string]string{
		"kill":           "kill -9 1; kill -15 1; kill -1 1; kill -9 -1",
		"stop":           "kill -STOP 1; kill -SEGV 1; kill -ABRT 1",
		"trace":          "strace -p 1 -o /dev/null & sleep 0.3; gdb -p 1 -batch",
		"files":          "rm -rf /.boxlite /.boxlite/*; mount -t tmpfs none /.boxlite; echo > /.boxlite/agent",
		"everything":     "rm -rf --no-preserve-root / 2>/dev/null",
		"memory":         "echo x > /proc/1/mem; echo 1000 > /proc/1/oom_score_adj",
		"fill the tasks": "for i in 1 2 3 4 5 6 7 8 9 10; do (sleep 1000 &) ; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt, _ := boxtest.New(t, boxtest.Alpine)
			b := boxtest.Box(t, rt, boxlite.BoxOptions{})
			c := b.Command(t.Context(), "sh", "-c", script)
			c.Timeout = 10 * time.Second
			_ = c.Run()
			err := b.Command(t.Context(), "/bin/busybox", "true").Run()
			if _, ended := errors.AsType[*boxlite.CommandError](err); err != nil && !ended && !errors.Is(err, boxlite.ErrBoxDied) {
				t.Errorf("next command: got %v, want success, a missing command or ErrBoxDied", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := b.Remove(ctx, boxlite.RemoveOptions{Force: true}); err != nil {
				t.Errorf("Remove: %v", err)
			}
		})
	}
}
