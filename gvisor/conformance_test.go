package gvisor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

func TestConformance(t *testing.T) {
	testenv.NeedGVisor(t)
	e := gvisor.New(gvisor.Options{CacheDir: t.TempDir()})
	t.Cleanup(removeCgroups)
	enginetest.Run(t, e, enginetest.Options{Rootfs: rootfs(t)})
}

// removeCgroups does what whoever finds a machine whose starter was killed
// does: the suite kills one, and gives its machines ids like these.
func removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/memory/*/*/"} {
		dirs, _ := filepath.Glob(pattern + "boxlite-t" + strings.Repeat("[0-9a-f]", 12))
		for _, dir := range dirs {
			_ = os.Remove(dir) // not while it is in use
		}
	}
}
