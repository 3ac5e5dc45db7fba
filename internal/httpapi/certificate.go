package httpapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Certificate is the one that a server shows. It may be loaded anew while it is
// used: connections that are open keep the one they have seen. The zero value
// has none. It is safe for concurrent use.
type Certificate struct {
	now atomic.Pointer[tls.Certificate]
}

// Load reads a chain and its private key, PEM. Files that are wrong change
// nothing.
func (c *Certificate) Load(certFile, keyFile string) error {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	if end := cert.Leaf.NotAfter; time.Now().After(end) {
		return fmt.Errorf("certificate %s: ended at %s; renew it", certFile, end.Format(time.RFC3339))
	}
	c.now.Store(&cert)
	return nil
}

// config is how TLS is spoken: 1.2 or later, as clients of this decade do.
func (c *Certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, // an upgrade to WebSocket needs it
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert := c.now.Load(); cert != nil {
				return cert, nil
			}
			return nil, errors.New("no certificate is loaded")
		},
	}
}
