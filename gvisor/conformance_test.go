package gvisor_test

import (
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

func TestConformance(t *testing.T) {
	testenv.NeedGVisor(t)
	e := gvisor.New(gvisor.Options{CacheDir: t.TempDir()})
	enginetest.Run(t, e, enginetest.Options{Rootfs: rootfs(t)})
}
