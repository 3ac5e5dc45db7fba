package gvisor_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// After a change of gVisor's version this fails until go generate is run.
func TestSeccompFilterIsPrecompiled(t *testing.T) {
	testenv.NeedGVisor(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("nobody has generated filters for " + runtime.GOARCH)
	}
	s, dir := spec(t), t.TempDir()
	m, err := gvisor.New(gvisor.Options{CacheDir: t.TempDir(), DebugDir: dir}).Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	stop(t, m)
	log, err := os.ReadFile(filepath.Join(dir, s.ID+".log"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "Loaded precompiled seccomp instructions") {
		t.Error("the sentry compiled its seccomp filter itself; run go generate in package gvisor")
	}
}
