package boxlite

import (
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/shim"
)

// RunHelper makes this program able to own boxes. A program that passes an
// engine to [Open] calls it first in main, with the same engine: boxlite starts
// the program again for each running box, and in that process RunHelper never
// returns. Otherwise it returns at once.
func RunHelper(engines ...Engine) {
	for _, e := range engines {
		if h, ok := e.(engine.Helper); ok {
			h.RunHelper()
		}
	}
	shim.Main(engines)
}
