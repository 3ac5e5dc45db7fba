// Package escape tries from inside a box, as root, what an attacker would.
package escape

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
