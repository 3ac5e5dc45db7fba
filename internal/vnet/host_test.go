package vnet

import (
	"net/netip"
	"testing"
	"time"
)

// TestOwnAddressesInAllForms promises that an address of the host is known for
// one when IPv6 carries it.
func TestOwnAddressesInAllForms(t *testing.T) {
	o := own{until: time.Now().Add(time.Hour), addrs: map[netip.Addr]bool{netip.MustParseAddr("203.0.113.9"): true}}
	for a, want := range map[string]bool{
		"203.0.113.9": true, "::ffff:203.0.113.9": true, "64:ff9b::203.0.113.9": true, "2002:cb00:7109::1": true,
		"203.0.113.8": false, "64:ff9b::203.0.113.8": false, "2001:db8::1": false,
	} {
		if got := o.has(netip.MustParseAddr(a)); got != want {
			t.Errorf("%s is the host's: got %v, want %v", a, got, want)
		}
	}
}
