package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const (
	dialTimeout = 5 * time.Second
	tries       = 4 // of one request, when the network or the server failed
	firstPause  = 200 * time.Millisecond
)

// endpoint is one place a reference may be got from: a mirror, or the registry
// itself.
type endpoint struct {
	repo name.Repository
	id   string // tag or digest
	how  Registry
}

// endpoints are the mirrors of the registry, then itself.
func (s *Store) endpoints(ref Reference) ([]endpoint, error) {
	var out []endpoint
	add := func(host, repo string, how Registry) error {
		var opts []name.Option
		if how.PlainHTTP {
			opts = append(opts, name.Insecure)
		}
		reg, err := name.NewRegistry(host, opts...)
		if err != nil {
			return err
		}
		out = append(out, endpoint{reg.Repo(strings.Split(repo, "/")...), ref.ref.Identifier(), how})
		return nil
	}
	repo := ref.ref.Context().RepositoryStr()
	for _, m := range s.c.Mirrors {
		if hostName(m.Registry) != ref.Registry() {
			continue
		}
		host, prefix, _ := strings.Cut(m.Host, "/")
		path := repo
		if prefix = strings.Trim(prefix, "/"); prefix != "" {
			path = prefix + "/" + repo
		}
		how := s.c.registry(host)
		how.PlainHTTP, how.SkipVerify = how.PlainHTTP || m.Insecure, how.SkipVerify || m.SkipVerify
		if err := add(host, path, how); err != nil {
			return nil, fmt.Errorf("mirror %q: %w", m.Host, err)
		}
	}
	host := ref.ref.Context().RegistryStr()
	return out, add(host, repo, s.c.registry(host))
}

func (e endpoint) host() string { return hostName(e.repo.RegistryStr()) }

// client talks to one repository of one registry.
type client struct {
	endpoint
	http     *http.Client
	base     *http.Transport
	patience time.Duration
	stall    time.Duration
}

// connect finds out how the registry wants to be talked to, and logs in.
func (s *Store) connect(ctx context.Context, e endpoint) (*client, error) {
	base, err := s.transport(e.how)
	if err != nil {
		return nil, err
	}
	auth, err := s.credentials(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("%s: credentials: %w", e.host(), err)
	}
	guarded := &guard{transport.NewUserAgent(base, "boxlite"), e.repo.RegistryStr(), e.how.PlainHTTP || loopback(e.repo.RegistryStr())}
	c := &client{endpoint: e, base: base, patience: s.patience, stall: s.stall}
	err = c.retry(ctx, func(ctx context.Context) error {
		rt, err := transport.NewWithContext(ctx, e.repo.Registry, auth, guarded, []string{e.repo.Scope(transport.PullScope)})
		c.http = &http.Client{Transport: rt}
		return err
	})
	if err != nil {
		base.CloseIdleConnections()
		return nil, registryErr(e.host(), err)
	}
	return c, nil
}

func (c *client) close() { c.base.CloseIdleConnections() }

func (s *Store) transport(how Registry) (*http.Transport, error) {
	conf := &tls.Config{InsecureSkipVerify: how.SkipVerify} //nolint:gosec // G402: the user said so for this host
	if how.CAFile != "" {
		pem, err := os.ReadFile(how.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificates for %s: %w", how.Host, err)
		}
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			conf.RootCAs = x509.NewCertPool()
		}
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates for %s: %s holds none in PEM", how.Host, how.CAFile)
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: s.stall,
		MaxIdleConnsPerHost:   parallel,
		ForceAttemptHTTP2:     true,
		TLSClientConfig:       conf,
	}, nil
}

func (s *Store) credentials(ctx context.Context, e endpoint) (authn.Authenticator, error) {
	switch {
	case e.how.Token != "":
		return authn.FromConfig(authn.AuthConfig{RegistryToken: e.how.Token}), nil
	case e.how.Username != "":
		return authn.FromConfig(authn.AuthConfig{Username: e.how.Username, Password: e.how.Password}), nil
	}
	return authn.Resolve(ctx, s.c.Keychain, e.repo.Registry)
}

var errPlain = errors.New("plain http is not allowed for this host")

// guard keeps credentials and manifests off plain http unless the user allowed
// it for the host. The library would try it for every private address.
type guard struct {
	inner http.RoundTripper
	host  string
	plain bool
}

func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" && r.URL.Host == g.host && !g.plain {
		return nil, errPlain
	}
	return g.inner.RoundTrip(r)
}

// loopback tells hosts that no network is between, where http is as good.
func loopback(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = strings.Trim(host, "[]")
	}
	return h == "localhost" || net.ParseIP(h).IsLoopback()
}

// retry calls f until it succeeds, or fails for good. Each call has the
// registry's patience; a host that does not answer at all has no second one.
func (c *client) retry(ctx context.Context, f func(context.Context) error) error {
	timeout := fmt.Errorf("no answer within %v: %w", c.patience, context.DeadlineExceeded)
	for try := range tries {
		attempt, cancel := context.WithTimeoutCause(ctx, c.patience, timeout)
		err := f(attempt)
		if err != nil && attempt.Err() != nil && ctx.Err() == nil {
			err = timeout
		}
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case try == tries-1 || !again(err):
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
	return nil
}

// again tells whether another try could help.
func again(err error) bool {
	if status := statusOf(err); status != 0 {
		return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errPlain) || errors.Is(err, http.ErrSchemeMismatch) || untrusted(err) {
		return false
	}
	return networkErr(err)
}

// pause waits a little longer after each try.
func pause(ctx context.Context, try int) error {
	t := time.NewTimer(firstPause << try)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// get asks for something of the repository. The caller closes the body.
func (c *client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/%s", c.repo.Scheme(), c.repo.RegistryStr(), c.repo.RepositoryStr(), path)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header = header
	return c.http.Do(req)
}

var manifestTypes = []string{
	string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
	string(types.OCIImageIndex), string(types.DockerManifestList),
}

// manifest gets a manifest or index by tag or digest, and checks the digest.
func (c *client) manifest(ctx context.Context, id string) (b []byte, mt types.MediaType, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		resp, err := c.get(ctx, "manifests/"+id, http.Header{"Accept": manifestTypes})
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if err := transport.CheckError(resp, http.StatusOK); err != nil {
			return err
		}
		if b, err = io.ReadAll(io.LimitReader(resp.Body, maxManifest+1)); err != nil {
			return err
		}
		mt = mediaType(resp.Header.Get("Content-Type"))
		want := resp.Header.Get("Docker-Content-Digest")
		if strings.HasPrefix(id, "sha256:") {
			want = id
		}
		if got := digestOf(b).String(); len(b) <= maxManifest && strings.HasPrefix(want, "sha256:") && got != want {
			return fmt.Errorf("manifest: %w: got %s, want %s; do not use this registry if it comes back", ErrDigest, got, want)
		}
		return nil
	})
	if err != nil {
		return nil, "", registryErr(c.host(), err)
	}
	if len(b) > maxManifest {
		return nil, "", fmt.Errorf("%s: %w: manifest of more than %d bytes", c.host(), ErrHostile, maxManifest)
	}
	return b, mt, nil
}

func mediaType(header string) types.MediaType {
	t, _, err := mime.ParseMediaType(header)
	if err != nil {
		return types.MediaType(header)
	}
	return types.MediaType(t)
}

// resolve gets the manifest for the platform, through an index if there is one.
func (c *client) resolve(ctx context.Context, want *v1.Platform) ([]byte, types.MediaType, error) {
	b, mt, err := c.manifest(ctx, c.id)
	if err != nil {
		return nil, "", err
	}
	d, err := fromIndex(b, mt, want)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", c.host(), err)
	}
	if d == nil {
		return b, manifestType(b, mt), nil
	}
	if b, mt, err = c.manifest(ctx, d.Digest.String()); err != nil {
		return nil, "", err
	}
	return b, manifestType(b, mt), nil
}
