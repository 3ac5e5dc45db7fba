package main

import (
	"fmt"
	"os"
	"strings"
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

// viaServer ends the name of an engine that is behind a server, to which the
// commands go.
const viaServer = "-server"

func served(engine string) bool { return strings.HasSuffix(engine, viaServer) }

// realBoxes tells whether commands in a box are those of its image; on the fake
// engine they are the host's.
func realBoxes(engine string) bool { return strings.HasPrefix(engine, "gvisor") }

// on runs a test on the fake engine, and on gVisor where that works, each also
// behind a server. With -short it is the fake one alone.
func on(t *testing.T, test func(t *testing.T, engine string)) {
	t.Helper()
	for _, engine := range []string{"fake", "fake" + viaServer, "gvisor", "gvisor" + viaServer} {
		t.Run(engine, func(t *testing.T) {
			switch only := os.Getenv(engineEnv); {
			case only != "" && only != engine:
				t.Skipf("needs %s=%s", engineEnv, engine)
			case only == "" && realBoxes(engine) && testing.Short():
				t.Skip("needs a run without -short")
			case realBoxes(engine):
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
	for _, name := range []string{"fake", "gvisor"} {
		engines[name+viaServer] = engines[name]
	}
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
