package bench

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/test/boxtest"
)

// onHostNetwork runs the client in gVisor's own runsc, of the version that is
// built into boxlite, on the network and the files of the host. It returns nil,
// and says why, where that cannot be done.
func onHostNetwork(b *testing.B) func(context.Context, ...string) ([]byte, error) {
	b.Helper()
	if os.Geteuid() != 0 {
		b.Log("hostnet is left out: runsc needs root for it")
		return nil
	}
	cmd := exec.CommandContext(b.Context(), "go", "tool", "-modfile=tools/go.mod", "-n", "runsc")
	cmd.Dir = boxtest.Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // it starts itself again without the host's libraries
	out, err := cmd.Output()
	if err != nil {
		b.Logf("hostnet is left out: build runsc: %v", err)
		return nil
	}
	runsc, state := strings.TrimSpace(string(out)), b.TempDir()
	b.Cleanup(func() { // what runsc leaves mounted
		if err := unix.Unmount(filepath.Join(state, "runsc", "null-netns"), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) {
			b.Error(err)
		}
	})
	var runs atomic.Int64
	return func(ctx context.Context, args ...string) ([]byte, error) {
		id := "hostnet" + strconv.FormatInt(runs.Add(1), 10)
		bundle := filepath.Join(state, id)
		if err := writeBundle(bundle, append([]string{"/usr/bin/env", "python3", "-c", client, args[0], "127.0.0.1"}, args[1:]...)); err != nil {
			return nil, err
		}
		return exec.CommandContext(ctx, runsc, "--network=host", "--platform=systrap", "--ignore-cgroups",
			"--root="+filepath.Join(state, "runsc"), "run", "--bundle="+bundle, id).Output()
	}
}

// writeBundle makes a bundle of a command on the files of the host.
func writeBundle(dir string, args []string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.Marshal(specs.Spec{
		Version: "1.0.0",
		Process: &specs.Process{Args: args, Env: []string{"PATH=" + os.Getenv("PATH")}, Cwd: "/"},
		Root:    &specs.Root{Path: "/", Readonly: true},
		Mounts:  []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc"}},
		Linux:   &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}}},
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600)
}
