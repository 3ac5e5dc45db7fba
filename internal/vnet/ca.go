package vnet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

const (
	// authorityLife is longer than any box runs: the key is never stored, so
	// an authority ends with the network that made it.
	authorityLife = 10 * 365 * 24 * time.Hour

	// leafLife is short, as no leaf is ever revoked; a new one is made when
	// leafRenew is left.
	leafLife  = 7 * 24 * time.Hour
	leafRenew = 24 * time.Hour

	// clockSkew is how far the clock of a box may be behind.
	clockSkew = 24 * time.Hour

	// maxLeaves bounds the cache: *.example.com has any number of names. Making
	// one costs a fraction of a millisecond.
	maxLeaves = 256
)

// authority signs the certificates that a box sees for the hosts of secrets. It
// is for one box and can sign for nothing but those hosts: its certificate says
// so. The keys stay in memory.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte

	leafKey *ecdsa.PrivateKey

	mu     sync.Mutex
	leaves map[string]*tls.Certificate
}

func newAuthority(secrets []secret) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority of the box: %w", err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority of the box: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{Organization: []string{"boxlite"}, CommonName: "boxlite, for the secrets of this box"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(authorityLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
		ExcludedIPRanges:      []*net.IPNet{cidr("0.0.0.0/0"), cidr("::/0")},
		// Not critical: libraries that do not know name constraints would
		// refuse everything that is signed.
		PermittedDNSDomainsCritical: false,
	}
	for _, s := range secrets {
		for _, h := range s.hosts {
			t.PermittedDNSDomains = append(t.PermittedDNSDomains, h.name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("authority of the box: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("authority of the box: %w", err)
	}
	return &authority{
		cert: cert, key: key, leafKey: leafKey,
		pem:    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		leaves: map[string]*tls.Certificate{},
	}, nil
}

// leaf returns the certificate for a canonical name.
func (a *authority) leaf(name string) (*tls.Certificate, error) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.leaves[name]; c != nil && now.Before(c.Leaf.NotAfter.Add(-leafRenew)) {
		return c, nil
	}
	c, err := a.sign(name, now)
	if err != nil {
		return nil, fmt.Errorf("certificate for %q: %w", name, err)
	}
	if len(a.leaves) >= maxLeaves {
		clear(a.leaves)
	}
	a.leaves[name] = c
	return c, nil
}

func (a *authority) sign(name string, now time.Time) (*tls.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{Organization: []string{"boxlite"}}, // a common name has room for 64 bytes only
		DNSNames:     []string{name},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(leafLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &a.leafKey.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: a.leafKey, Leaf: leaf}, nil
}

// serial is a random number of 120 bits: certificates of one name and different
// boxes never look like the same one.
func serial() *big.Int {
	b := make([]byte, 15)
	_, _ = rand.Read(b) // has no errors
	return new(big.Int).SetBytes(b)
}

func cidr(s string) *net.IPNet {
	_, n, err := net.ParseCIDR(s)
	if err != nil {
		panic(err)
	}
	return n
}
