// Boxlite runs untrusted commands in boxes. See docs/cli.md.
package main

import (
	"os"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/gvisor"
)

func main() {
	e := gvisor.New(gvisor.Options{})
	boxlite.RunHelper(e)
	os.Exit(Main(e))
}
