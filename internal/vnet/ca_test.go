package vnet

import (
	"crypto/x509"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestAuthority promises that certificates are good for the hosts of secrets, and
// that the authority could not sign for others if it wanted to.
func TestAuthority(t *testing.T) {
	s, err := checkSecret(key("api.test", "*.wild.test"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := newAuthority([]secret{s})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.pem) {
		t.Fatal("the certificate is not PEM")
	}
	for name, good := range map[string]bool{"api.test": true, "a.b.wild.test": true, "evil.test": false} {
		c, err := a.leaf(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); (err == nil) != good {
			t.Errorf("%s: got %v, want good to be %t", name, err, good)
		}
		if again, _ := a.leaf(name); again != c {
			t.Errorf("%s: a second certificate was made", name)
		}
	}
	for i := range 2 * maxLeaves {
		if _, err := a.leaf(fmt.Sprintf("n%d.wild.test", i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.leaves) > maxLeaves {
		t.Errorf("%d certificates are kept, want at most %d", len(a.leaves), maxLeaves)
	}
}

// TestCertificatesAreRenewed promises that a box which runs for long is not shown
// a certificate that has ended.
func TestCertificatesAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := newAuthority(nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			c, err := a.leaf("api.test")
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(c.Leaf.NotAfter); left < leafRenew || time.Now().After(a.cert.NotAfter) {
				t.Fatalf("the certificate is good for %s more", left)
			}
			time.Sleep(2 * leafLife / 5)
		}
	})
}
