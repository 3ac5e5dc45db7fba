package egress

import (
	"fmt"
	"testing"
)

// BenchmarkDecide takes the last rule of as many as a policy may have.
func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{1, maxRules} {
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			p := Policy{Mode: AllowList}
			for i := range n {
				p.Allow = append(p.Allow, MustParse(fmt.Sprintf("*.example%d.com:443", n-i)))
			}
			f := to(b, "tcp 192.0.2.1:443 api.example1.com api.example1.com")
			for b.Loop() {
				if v := p.Decide(f); v.Action != Allow {
					b.Fatal(v)
				}
			}
		})
	}
}
