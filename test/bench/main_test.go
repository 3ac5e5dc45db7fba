// Package bench measures what docs/SPECIFICATION.md promises, on real boxes.
package bench

import (
	"testing"

	"github.com/boxlite-go/boxlite/test/boxtest"
)

func TestMain(m *testing.M) { boxtest.Main(m) }
