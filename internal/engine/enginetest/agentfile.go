package enginetest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

// AgentEnv names the variable that may give the file of an agent to use.
const AgentEnv = "BOXLITE_TEST_AGENT"

// agentFile is the agent of this source tree as an executable file. It is
// built once a process; the Go build cache makes the next ones quick.
var agentFile = sync.OnceValues(func() (string, error) {
	if f := os.Getenv(AgentEnv); f != "" {
		return f, nil
	}
	dir, err := cacheDir()
	if err != nil {
		return "", err
	}
	return buildAgent(dir)
})

// Prepare finds or builds the agent and names it in the environment, for the
// helper processes of a test, which inherit the name. A TestMain whose boxes
// have helper processes calls it first.
func Prepare() error {
	f, err := agentFile()
	if err != nil {
		return err
	}
	return os.Setenv(AgentEnv, f)
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		base = filepath.Join(os.TempDir(), fmt.Sprintf("boxlite-test-%d", os.Getuid()))
	}
	dir := filepath.Join(base, "boxlite-test")
	return dir, os.MkdirAll(dir, 0o700)
}

// buildAgent builds cmd/boxlite-agent and keeps it by its content, so that
// test processes that run at once never write a file another one executes.
func buildAgent(dir string) (string, error) {
	_, self, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("fake: tests must run from the source tree")
	}
	tmp, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	out := filepath.Join(tmp, "agent")
	cgo, args := "CGO_ENABLED=0", []string{"build", "-o", out}
	if raceEnabled { // then the agent is judged too
		cgo, args = "CGO_ENABLED=1", append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/boxlite-agent")...)
	cmd.Dir = filepath.Join(filepath.Dir(self), "..", "..", "..")
	cmd.Env = append(os.Environ(), cgo)
	if msg, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fake: build the agent: %w\n%s", err, msg)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	kept := filepath.Join(dir, "agent-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	sweep(dir)
	return kept, os.Rename(out, kept)
}

// sweep removes agents that no test of today has made.
func sweep(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > 24*time.Hour {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}
