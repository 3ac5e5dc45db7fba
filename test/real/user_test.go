package real

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// setpriv runs its arguments as a user with nothing: no name, no group, no
// capability, and none to gain.
var setpriv = []string{
	"setpriv", "--reuid", "1500", "--regid", "1500", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--",
}

// userDir is a directory that user 1500 owns and can reach, with the program
// and an image in it.
func userDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "proof-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	for from, to := range map[string]string{boxtest.CLI(t): "boxlite", boxtest.Archive(t, boxtest.Alpine): "alpine.tar"} {
		f, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		boxtest.Copy(t, filepath.Join(dir, to), f, 0o755)
		f.Close()
	}
	if err := os.Chown(dir, 1500, 1500); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestSameForRootAndForAnOrdinaryUser runs the program as both.
func TestSameForRootAndForAnOrdinaryUser(t *testing.T) {
	testenv.NeedGVisor(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be both")
	}
	if _, err := exec.LookPath(setpriv[0]); err != nil {
		testenv.Missing(t, "setpriv", err.Error())
	}
	before := boxtest.Leftovers()
	var results []string
	for _, as := range [][]string{nil, setpriv} {
		dir := userDir(t)
		results = append(results, session(t, dir, as))
		if left := boxtest.ProcessesOf(filepath.Join(dir, "boxlite")); len(left) > 0 {
			t.Errorf("as %q: processes left: %v", as, left)
		}
	}
	if results[0] != results[1] {
		t.Errorf("as user 1500: got\n%s\nwant, as root:\n%s", results[1], results[0])
	}
	if want := "from the host\nrefused\n"; !strings.Contains(results[1], want) {
		t.Errorf("network as user 1500: got\n%s\nwant %q", results[1], want)
	}
	if diff := before.Await(10 * time.Second); diff != "" {
		t.Errorf("left on the host:\n%s", diff)
	}
}

// session is what one user does, and what comes of it.
func session(t *testing.T, dir string, as []string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with ln
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			// What is not read when a socket is closed resets the connection,
			// and the answer is lost.
			_, _ = bufio.NewReader(c).ReadString('\n')
			fmt.Fprintln(c, "from the host")
			c.Close()
		}
	}()
	port := portOf(t, ln.Addr())
	var all strings.Builder
	for _, step := range []struct {
		args  []string
		stdin string
		code  int
	}{
		{args: []string{"load", "-i", filepath.Join(dir, "alpine.tar")}},
		{args: []string{"run", "alpine:latest", "sh", "-c", "id -u; id -g; pwd; ls /; echo err >&2; exit 7"}, code: 7},
		{args: []string{"run", "-i", "alpine:latest", "wc", "-c"}, stdin: strings.Repeat("x", 1<<20)},
		{args: []string{"run", "-u", "1000:1000", "alpine:latest", "id"}},
		{args: []string{
			"run", "--network", "allowlist", "--allow", alias + ":" + port, "alpine:latest", "sh", "-c",
			"echo ask | nc 192.168.127.254 " + port + "; nc 192.168.127.254 1 || echo refused",
		}},
		{args: []string{"run", "-d", "-p", "0:80", "--name", "kept", "alpine:latest", "sleep", "1000"}, code: -1},
		{args: []string{"exec", "kept", "sh", "-c", "echo file >/f; dd if=/dev/zero of=/big bs=1M count=8 2>/dev/null"}},
		{args: []string{"stop", "kept"}, code: -1},
		{args: []string{"start", "kept"}, code: -1},
		{args: []string{"exec", "kept", "sh", "-c", "cat /f; wc -c </big"}},
		{args: []string{"rm", "-f", "kept"}, code: -1},
		{args: []string{"list", "-a", "-q"}},
	} {
		cmd := exec.CommandContext(t.Context(), "/bin/true")
		full := append(append([]string{}, as...), append([]string{filepath.Join(dir, "boxlite")}, step.args...)...)
		cmd.Path, cmd.Args = full[0], full
		if p, err := exec.LookPath(full[0]); err == nil {
			cmd.Path = p
		}
		var out, stderr bytes.Buffer
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = "/", strings.NewReader(step.stdin), &out, &stderr
		cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "SECRET=of the host"}
		err := cmd.Run()
		got := cmd.ProcessState.ExitCode()
		if step.code < 0 { // prints ids, which differ
			if err != nil {
				t.Errorf("as %q: %q: %v: %s", as, step.args, err, stderr.String())
			}
			continue
		}
		if got != step.code {
			t.Errorf("as %q: %q: exit code: got %d, want %d: %s", as, step.args, got, step.code, stderr.String())
		}
		all.WriteString(strings.Join(step.args, " ") + "\n" + out.String() + stderr.String())
	}
	return strings.NewReplacer(dir, "DIR", port, "PORT").Replace(all.String())
}
