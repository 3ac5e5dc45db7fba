package gvisor_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite/internal/testenv"
)

// ordinaryUser is one with nothing: no name, no group, no capability to gain.
const ordinaryUser = 1500

// All promises hold for an ordinary user too: the tests run again as one, but
// for those of the agent, which does not know who runs the sentry.
func TestAsOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("runs as an ordinary user anyway")
	}
	testenv.NeedGVisor(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		testenv.Missing(t, "setpriv", err.Error())
	}
	self, err := os.Open("/proc/self/exe") // which that user may not reach by its path
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	tmp, err := os.MkdirTemp("", "user")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chown(tmp, ordinaryUser, ordinaryUser); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--reuid=1500", "--regid=1500", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
		"/proc/self/fd/3", "-test.skip=TestConformance/(Output|Copy.*|Files|Terminal)", "-test.v=" + map[bool]string{true: "true", false: "false"}[testing.Verbose()],
	}
	cmd := exec.CommandContext(t.Context(), setpriv, args...)
	cmd.Env = append(os.Environ(), "HOME="+tmp, "TMPDIR="+tmp, testenv.RequireVar+"=gvisor")
	cmd.ExtraFiles = []*os.File{self}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Log(strings.TrimSpace(string(out)))
	if err != nil {
		t.Errorf("tests as user %d: %v", ordinaryUser, err)
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) > 1 { // the cache
		t.Errorf("left in the user's directory: got %q, want only its cache", left)
	}
}
