// Package real runs real programs in real boxes, through the public API and
// the command line.
package real

import (
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/boxlite-go/boxlite/test/netlab"
)

func TestMain(m *testing.M) {
	boxlite.RunHelper(boxtest.Engine)
	netlab.Enter()
	boxtest.Main(m)
}
