// Package testenv lets tests say what they need of the machine they run on.
// What is missing is found by trying, and skips the test, unless
// BOXLITE_TEST_REQUIRE names it: then the test fails.
package testenv

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/gvisor"
)

// RequireVar is the environment variable with the list, separated by commas,
// of what may not be missing.
const RequireVar = "BOXLITE_TEST_REQUIRE"

// Required tells whether what may not be missing here.
func Required(what string) bool {
	return slices.Contains(strings.Split(os.Getenv(RequireVar), ","), what)
}

// Missing ends the test: what is not there, because of why.
func Missing(tb testing.TB, what, why string) {
	tb.Helper()
	if Required(what) {
		tb.Fatalf("needs %s, which %s says is here: %s", what, RequireVar, why)
	}
	tb.Skipf("needs %s: %s", what, why)
}

// NeedGVisor ends the test unless boxes on gVisor work here. The test's
// TestMain has called RunHelper of that engine.
func NeedGVisor(tb testing.TB) {
	tb.Helper()
	if err := checkGVisor(); err != nil {
		Missing(tb, gvisor.Name, err.Error())
	}
}

// checkGVisor boots a box, once a process.
var checkGVisor = sync.OnceValue(func() error {
	// Not a test's context: the answer is for all of them. Under the load of
	// a whole test run a boot may be slow.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return gvisor.New(gvisor.Options{}).Check(ctx)
})
