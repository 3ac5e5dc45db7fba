package escape

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// capabilitySets are those of a process in the box, without names, in the
// order of /proc/self/status: inheritable, permitted, effective, bounding,
// ambient.
const capabilitySets = `grep ^Cap /proc/self/status | cut -f2`

// zeros is an empty set there.
const zeros = "0000000000000000"

// TestDroppedCapabilitiesAreGone looks at every way in which a command starts.
func TestDroppedCapabilitiesAreGone(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	const most = "00000000a80405fa" // without CHOWN and NET_RAW, bits 0 and 13
	drop := boxlite.Capabilities{Drop: []string{"chown", "CAP_NET_RAW"}}
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Capabilities: drop})
	root, user := sets(zeros, most, most, most, zeros), sets(zeros, zeros, zeros, most, zeros)
	for _, tt := range []struct {
		name string
		set  func(c *boxlite.Cmd)
		want string
	}{
		{"root", func(*boxlite.Cmd) {}, root},
		{"a user", func(c *boxlite.Cmd) { c.User = "1000:1000" }, user},
		{"with limits", func(c *boxlite.Cmd) { c.Security = &boxlite.SecurityOptions{MaxOpenFiles: 64, MaxMemory: 1 << 32} }, root},
		{"a user with limits", func(c *boxlite.Cmd) { c.User, c.Security = "1000", &boxlite.SecurityOptions{MaxOpenFiles: 64} }, user},
		{"on a terminal", func(c *boxlite.Cmd) { c.Terminal = &boxlite.Terminal{} }, strings.ReplaceAll(root, "\n", "\r\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := b.Command(t.Context(), "sh", "-c", capabilitySets)
			tt.set(c)
			if out, err := c.Output(); err != nil || string(out) != tt.want {
				t.Errorf("sets: got %q, %v, want %q", out, err, tt.want)
			}
		})
	}
	if out, err := b.Command(t.Context(), "sh", "-c", "touch /x; chown 5 /x").CombinedOutput(); err == nil {
		t.Errorf("chown of root: got success, want a refusal: %s", out)
	}

	job := boxtest.Box(t, rt, boxlite.BoxOptions{Capabilities: drop, Cmd: []string{"sh", "-c", capabilitySets}})
	if out, err := job.Main(t.Context()).Output(); err != nil || string(out) != root {
		t.Errorf("sets of a main command: got %q, %v, want %q", out, err, root)
	}
}

func sets(s ...string) string { return strings.Join(s, "\n") + "\n" }

// TestDroppedCapabilitiesCannotBeHadBack tries.
func TestDroppedCapabilitiesCannotBeHadBack(t *testing.T) {
	script, err := os.ReadFile("testdata/regain.py")
	if err != nil {
		t.Fatal(err)
	}
	rt, _ := boxtest.New(t, boxtest.Dev)
	for _, drop := range []string{"CHOWN", "ALL"} {
		b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev, Capabilities: boxlite.Capabilities{Drop: []string{drop}}})
		out, err := b.Command(t.Context(), "python3", "-c", string(script)).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "attempted") || strings.Contains(string(out), "REGAINED") {
			t.Errorf("without %s: %v, got\n%s", drop, err, out)
		}
		// A user runs a program that becomes root.
		c := b.Command(t.Context(), "sh", "-c", "/suid/grep ^CapEff /proc/self/status; /suid/grep ^Uid /proc/self/status")
		boxtest.Sh(t, b, "mkdir /suid; cp /bin/grep /suid; chmod u+s /suid/grep")
		c.User = "1000"
		want := map[string]string{"CHOWN": "00000000a80425fa", "ALL": zeros}[drop]
		if out, err := c.CombinedOutput(); err != nil || string(out) != "CapEff:\t"+want+"\nUid:\t1000\t0\t0\t0\n" {
			t.Errorf("set-user-id root without %s: got %q, %v, want %s as root", drop, out, err, want)
		}
	}
	// The same in a box that has them shows that the attempts are real ones.
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Dev})
	out := boxtest.Sh(t, b, "cat > /regain.py <<'EOF'\n"+string(script)+"EOF\npython3 /regain.py")
	for _, way := range []string{"by_unshare", "by_clone", "by_clone3", "by_upper_bits", "file capabilities"} {
		if !strings.Contains(out, way+"\n") {
			t.Errorf("with all capabilities: %s did not work:\n%s", way, out)
		}
	}
}

// TestCapabilitiesThatAreKept drops all but some.
func TestCapabilitiesThatAreKept(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		Capabilities: boxlite.Capabilities{Drop: []string{"ALL"}, Add: []string{"CHOWN", "SETUID", "SETGID"}},
	})
	const kept = "00000000000000c1"
	if got, want := boxtest.Sh(t, b, capabilitySets), sets(zeros, kept, kept, kept, zeros); got != want {
		t.Errorf("sets: got %q, want %q", got, want)
	}
	boxtest.Sh(t, b, "touch /x; chown 5 /x; su -s /bin/true nobody")
	boxtest.Sh(t, b, "! chroot / true")
}

// TestWithoutCapabilitiesBoxliteStillWorks: what is dropped binds commands, not
// what is done for them.
func TestWithoutCapabilitiesBoxliteStillWorks(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		WorkingDir: "/made/for/it", User: "nobody", Capabilities: boxlite.Capabilities{Drop: []string{"ALL"}},
	})
	ctx := t.Context()
	if got := boxtest.Sh(t, b, "pwd; id -un; stat -c %U .; touch here"); got != "/made/for/it\nnobody\nnobody\n" {
		t.Errorf("working directory: got %q, want one that nobody owns", got)
	}
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("in"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.CopyIn(ctx, filepath.Join(host, "file"), "/root/deep/file"); err != nil {
		t.Errorf("copy in: %v", err)
	}
	if err := b.CopyOut(ctx, "/root/deep/file", filepath.Join(host, "back")); err != nil {
		t.Errorf("copy out: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(host, "back")); string(got) != "in" {
		t.Errorf("copied: got %q, %v, want what went in", got, err)
	}
	if _, err := fs.Stat(b.FS(ctx), "etc/shadow"); err != nil {
		t.Errorf("a file of root's: %v", err)
	}
	c := b.Command(ctx, "sh", "-c", "id -u; tty >/dev/null; echo $?")
	c.User, c.Terminal = "1000:1000", &boxlite.Terminal{}
	if out, err := c.Output(); err != nil || string(out) != "1000\r\n0\r\n" {
		t.Errorf("another user on a terminal: got %q, %v", out, err)
	}
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := rt.Box(ctx, b.ID())
	if err != nil {
		t.Fatal(err)
	}
	if got := boxtest.Sh(t, again, "ls; "+capabilitySets); got != "here\n"+strings.Repeat(zeros+"\n", 5) {
		t.Errorf("after a stop: got %q, want the file, and no capability", got)
	}
	sleeper := again.Command(ctx, "sleep", "1000")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	if err := sleeper.Kill(); err != nil {
		t.Errorf("kill: %v", err)
	}
	if exit, ok := errors.AsType[*boxlite.ExitError](sleeper.Wait()); !ok || exit.Signal != 9 {
		t.Errorf("killed: got %+v, want signal 9", exit)
	}
}

// TestOnlyRootGivesFilesCapabilities has a user, root, and root without
// CAP_SETFCAP try.
func TestOnlyRootGivesFilesCapabilities(t *testing.T) {
	script, err := os.ReadFile("testdata/filecaps.py")
	if err != nil {
		t.Fatal(err)
	}
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	without := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, Capabilities: boxlite.Capabilities{Drop: []string{"SETFCAP"}}})
	for _, tt := range []struct {
		who  string
		box  *boxlite.Box
		user string
		want string
	}{
		{"a user", b, "1000:1000", ""},
		{"root", b, "root", "GIVEN path\nGIVEN relative\nGIVEN link\nGIVEN no-follow\nGIVEN descriptor\nGIVEN race\n"},
		{"root without CAP_SETFCAP", without, "root", ""},
		{"a user there", without, "1000:1000", ""},
	} {
		c := tt.box.Command(t.Context(), "python3", "-c", string(script))
		c.User = tt.user
		if out, err := c.CombinedOutput(); err != nil || string(out) != tt.want+"done\n" {
			t.Errorf("%s: got %v and\n%swant\n%sdone", tt.who, err, out, tt.want)
		}
	}
}
