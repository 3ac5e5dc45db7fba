// Command boxlite-agent is PID 1 in a box. It serves the guest protocol on the
// streams that the host sends over descriptor 3.
package main

import (
	"flag"
	"fmt"
	"net/netip"
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
	var resolvers []netip.Addr
	flag.Func("resolver", "address of a DNS server of the box; repeat", func(s string) error {
		addr, err := netip.ParseAddr(s)
		resolvers = append(resolvers, addr)
		return err
	})
	confined := flag.Bool("no-user-namespaces", false, "keep commands from making user namespaces")
	show := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *show {
		fmt.Println(version)
		return
	}
	err := agent.Run(agent.Config{
		Control: control, Root: *root, Resolvers: resolvers, NoUserNamespaces: *confined, Version: version,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "boxlite-agent:", err)
		os.Exit(1)
	}
}
