package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Conditions. The errors that wrap them say what to do next.
var (
	ErrNotFound         = errors.New("image is not in the store")
	ErrInvalidReference = errors.New("invalid image reference")
	ErrInUse            = errors.New("image is in use")
	ErrUnauthorized     = errors.New("not authorized")
	ErrUnreachable      = errors.New("registry is unreachable")
	ErrManifestUnknown  = errors.New("registry has no such image")
	ErrHostile          = errors.New("malformed or hostile image")
	ErrDigest           = errors.New("content does not match its digest")
	ErrNoSpace          = errors.New("no space left")
	ErrPlatform         = errors.New("image is not for this platform")
)

// storeErr names the conditions of the host's disk.
func storeErr(err error) error {
	if errors.Is(err, ErrNoSpace) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w; free some space, or prune images", ErrNoSpace, err)
	}
	return err
}

// layerErr names the conditions of a layer that is being unpacked. What does
// not come from the host's disk comes from the layer.
func layerErr(digest string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return storeErr(fmt.Errorf("unpack layer %s: %w", short(digest), err))
	}
	return fmt.Errorf("layer %s: %w: %w; do not use this image", short(digest), ErrHostile, err)
}

// registryErr names the condition behind an error of a registry.
func registryErr(host string, err error) error {
	switch status := statusOf(err); {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%s: %w: %w; check the name, and log in with \"docker login %s\" or give credentials for it", host, ErrUnauthorized, err, host)
	case status == http.StatusNotFound:
		return fmt.Errorf("%s: %w: %w; check the name and the tag", host, ErrManifestUnknown, err)
	case status == http.StatusTooManyRequests:
		return fmt.Errorf("%s: %w: too many requests: %w; wait, log in, or set a mirror", host, ErrUnreachable, err)
	case status >= http.StatusInternalServerError:
		return fmt.Errorf("%s: %w: %w; try again later, or set a mirror", host, ErrUnreachable, err)
	case status != 0:
		return fmt.Errorf("%s: %w", host, err)
	case errors.Is(err, errPlain), errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s: %w: %w; if it speaks plain http, say so for this registry", host, ErrUnreachable, err)
	case untrusted(err):
		return fmt.Errorf("%s: %w: %w; give the certificate of its authority for this registry", host, ErrUnreachable, err)
	case networkErr(err):
		return fmt.Errorf("%s: %w: %w; check the network and the proxy, or set a mirror", host, ErrUnreachable, err)
	}
	return fmt.Errorf("%s: %w", host, err)
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return e.StatusCode
	}
	return 0
}

func untrusted(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

func networkErr(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || errors.Is(err, errStalled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// short is a digest as people read it.
func short(digest string) string {
	const n = len("sha256:") + 12
	return digest[:min(n, len(digest))]
}
