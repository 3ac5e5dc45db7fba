package enginetest_test

import (
	"os"
	"testing"

	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
)

func TestMain(m *testing.M) {
	enginetest.HelperMain(enginetest.Fake())
	os.Exit(enginetest.CheckLeaks(m))
}

func TestFakeKeepsThePromises(t *testing.T) {
	const host = "commands are the host's own, run by the user of the test"
	enginetest.Run(t, enginetest.Fake(), enginetest.Options{Lacks: map[enginetest.Power]string{
		enginetest.Users: host, enginetest.Isolation: host, enginetest.Processes: host,
		enginetest.DiskLimit: host, enginetest.Memory: host, enginetest.CPUs: host, enginetest.Volumes: host, enginetest.Capabilities: host,
	}})
}
