package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/rogpeppe/go-internal/testscript"
)

// engineEnv names the engine of a boxlite command in a test. Given to go test,
// it keeps the tests to that engine; otherwise they run on both, since the
// promises are the same.
const engineEnv = "BOXLITE_SCRIPT_ENGINE"

const raceEnv = "GORACE"

// viaServer is the fake engine behind a server, to which the commands go.
const viaServer = "server"

// on runs a test on the fake engine, behind a server too, and on gVisor where
// that works. With -short it is the fake one alone.
func on(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, engine := range []string{"fake", viaServer, "gvisor"} {
		t.Run(engine, func(t *testing.T) {
			switch only := os.Getenv(engineEnv); {
			case only != "" && only != engine:
				t.Skipf("needs %s=%s", engineEnv, engine)
			case only == "" && engine == "gvisor" && testing.Short():
				t.Skip("needs a run without -short")
			case engine == "gvisor":
				testenv.NeedGVisor(t)
			}
			test(t, engine)
		})
	}
}

// TestMain makes the test binary both the boxlite command and the helper of
// its boxes.
func TestMain(m *testing.M) {
	engines := map[string]boxlite.Engine{"fake": enginetest.Fake(), "gvisor": gvisor.New(gvisor.Options{})}
	engines[viaServer] = engines["fake"]
	boxlite.RunHelper(engines["fake"], engines["gvisor"])
	testscript.Main(prepared{m}, map[string]func(){"boxlite": func() { os.Exit(Main(engines[os.Getenv(engineEnv)])) }})
}

// prepared builds the agent before the tests, but not in their commands.
type prepared struct{ m *testing.M }

func (p prepared) Run() int {
	if err := enginetest.Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// The race detector makes each process linger for a second at its end.
	if os.Getenv(raceEnv) == "" {
		os.Setenv(raceEnv, "atexit_sleep_ms=0")
	}
	return p.m.Run()
}
