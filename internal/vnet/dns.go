package vnet

import (
	"context"
	"net/netip"

	"github.com/boxlite-go/boxlite/egress"
)

// resolverConfig is what a resolver needs of its network.
type resolverConfig struct {
	policy func() *egress.Policy
	local  func(netip.Addr) bool // is it an address of the host
	note   func(egress.Event)
	server netip.AddrPort // zero: the host's
}

// resolver answers the questions of the box and remembers its answers.
//
// Until there is one, no question is answered.
type resolver struct{ resolverConfig }

func newResolver(c resolverConfig) *resolver { return &resolver{c} }

// answer turns one DNS message into its answer; nil is none.
func (r *resolver) answer(context.Context, []byte, bool) []byte { return nil }

// names returns the names under which a was given out.
func (r *resolver) names(netip.Addr) []string { return nil }
