package egress_test

import (
	"fmt"
	"net/netip"

	"github.com/boxlite-go/boxlite/egress"
)

// A box that may use one service, and a database on the private network.
func Example() {
	p := egress.Policy{
		Mode:  egress.AllowList,
		Allow: []egress.Rule{egress.MustParse("*.example.com:443"), egress.MustParse("tcp:10.0.0.5:5432")},
	}
	fmt.Println(p.Lookup("api.example.com"))
	fmt.Println(p.Lookup("api.example.com.evil.test"))

	flow := egress.Flow{Proto: egress.TCP, Dst: netip.MustParseAddrPort("192.0.2.1:443"), Names: []string{"api.example.com"}}
	fmt.Println(p.Decide(flow))
	flow.Host = "files.evil.test" // what the client's first bytes said
	fmt.Println(p.Decide(flow))

	for _, dst := range []string{"10.0.0.5:5432", "10.0.0.6:5432", "169.254.169.254:80"} {
		fmt.Println(p.Decide(egress.Flow{Proto: egress.TCP, Dst: netip.MustParseAddrPort(dst)}))
	}
	// Output:
	// allow (*.example.com:443)
	// deny: no rule allows it (default)
	// sniff (*.example.com:443)
	// deny: the host named is not the one that was looked up (*.example.com:443)
	// allow (tcp:10.0.0.5:5432)
	// deny: private address (builtin)
	// deny: link-local or metadata address (builtin)
}

func ExampleParse() {
	_, err := egress.Parse("https://example.com")
	fmt.Println(err)
	_, err = egress.Parse("10.0.0.1/8")
	fmt.Println(err)
	// Output:
	// not a rule: "https://example.com": a rule is for a host, not for a URL: write "example.com:443"
	// not a rule: "10.0.0.1/8": "10.0.0.1/8" has bits after its prefix: write 10.0.0.0/8, or the address alone
}
