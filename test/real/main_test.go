// Package real runs real programs in real boxes, through the public API and
// the command line.
package real

import (
	"testing"

	"github.com/boxlite-go/boxlite/test/boxtest"
)

func TestMain(m *testing.M) { boxtest.Main(m) }
