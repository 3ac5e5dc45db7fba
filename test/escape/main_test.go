// Package escape tries from inside a box, as root, what an attacker would.
package escape

import (
	"testing"

	"github.com/boxlite-go/boxlite/test/boxtest"
)

func TestMain(m *testing.M) { boxtest.Main(m) }
