// Package crash kills processes at every step of what boxlite does, and looks
// at what is left: a home that opens, boxes in a true state that can be used
// and removed, nothing that leaks.
package crash

import (
	"os"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

func TestMain(m *testing.M) {
	if os.Args[0] == callerArg0 {
		callerMain()
		os.Exit(0)
	}
	boxlite.RunHelper(boxtest.Engine)
	boxtest.Main(m)
}
