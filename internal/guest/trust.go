package guest

import (
	"bytes"
	"context"
)

// Where a box finds certificates after [Client.Trust].
const (
	// BundlePath has all authorities the box trusts.
	BundlePath = "/etc/ssl/certs/ca-certificates.crt"
	// AuthorityPath has the one of Trust alone, where tools that make bundles
	// anew look for what to add.
	AuthorityPath = "/usr/local/share/ca-certificates/boxlite.crt"
)

// Bounds of a [Trust], in bytes: both together, encoded, fit in a frame. A
// bundle of the authorities browsers trust has 220 kB.
const (
	maxAuthority = 64 << 10
	maxRoots     = 512 << 10
)

// Trust is a certificate authority that a box is to trust, in place of the one
// of an earlier Trust.
type Trust struct {
	CA    []byte `json:"ca"`              // PEM
	Roots []byte `json:"roots,omitempty"` // PEM: the authorities of a box whose image has none
}

// Trust adds an authority to the bundles of certificates that programs in the
// box read.
func (c *Client) Trust(ctx context.Context, t Trust) error {
	return c.call(ctx, &Request{Op: OpTrust, Trust: &t}, nil)
}

func (t *Trust) validate() *Error {
	switch {
	case t == nil || !bytes.Contains(t.CA, []byte("-----BEGIN CERTIFICATE-----")):
		return invalid("trust without a certificate")
	case len(t.CA) > maxAuthority:
		return invalid("certificate of %d bytes, at most %d", len(t.CA), maxAuthority)
	case len(t.Roots) > maxRoots:
		return invalid("certificates of %d bytes, at most %d", len(t.Roots), maxRoots)
	}
	return nil
}
