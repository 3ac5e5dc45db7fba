// Command boxlite-agent is PID 1 in a box. It serves the guest protocol on the
// streams that the host sends over descriptor 3.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/boxlite-go/boxlite/internal/agent"
)

// version is set when the binary is built.
var version = "dev"

// control is the descriptor that whoever starts an agent leaves it.
const control = 3

func main() {
	agent.RunHelper()
	root := flag.String("root", "", "tests only: directory of the host that stands for the box's root")
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println(version)
		return
	}
	if err := agent.Run(agent.Config{Control: control, Root: *root, Version: version}); err != nil {
		fmt.Fprintln(os.Stderr, "boxlite-agent:", err)
		os.Exit(1)
	}
}
