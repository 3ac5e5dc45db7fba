package netlab

import (
	"fmt"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// Runtime opens a runtime in a new home whose boxes ask the resolver of the
// laboratory, with the images of these names.
func Runtime(tb testing.TB, refs ...string) (*Lab, *boxlite.Runtime) {
	tb.Helper()
	lab := Need(tb)
	_, home := boxtest.New(tb, refs...)
	rt, err := boxlite.Open(tb.Context(), boxlite.Config{Home: home, Engine: boxtest.Engine, Resolver: Resolver})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { rt.Close() })
	return lab, rt
}

// Policy makes a policy of rules as they are written.
func Policy(tb testing.TB, mode egress.Mode, allow ...string) (p egress.Policy) {
	tb.Helper()
	p.Mode = mode
	for _, s := range allow {
		r, err := egress.Parse(s)
		if err != nil {
			tb.Fatal(err)
		}
		p.Allow = append(p.Allow, r)
	}
	return p
}

// Log returns the network log of a box.
func Log(tb testing.TB, b *boxlite.Box) (es []egress.Event) {
	tb.Helper()
	for e, err := range b.NetworkLog(tb.Context(), boxlite.NetworkLogOptions{}) {
		if err != nil {
			tb.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

// Lines writes events for a message.
func Lines(es []egress.Event) (s string) {
	for _, e := range es {
		s += fmt.Sprintf("%d %s %s %s %q %s\n", e.Seq, e.Kind, e.Proto, e.Addr, e.Name, e.Verdict)
	}
	return s
}
