package restclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// Config says which server to use, and as whom.
type Config struct {
	URL        string // http, https, or unix with the path of a socket
	Key        string // empty: none
	PathPrefix string // between /v1/ and the rest, if the server wants one
	CAFile     string // more certificates to trust, PEM
	PlainKey   bool   // send the key over http to other hosts too
	UserAgent  string
}

// Client is safe for concurrent use.
type Client struct {
	base   *url.URL // of all requests, with a slash at its end
	header http.Header
	http   *http.Client
	where  string // the server, as errors call it
}

// Times of a connection. That a server that is gone is noticed takes a minute
// at most; what an answer takes is up to the caller.
const (
	dialTimeout = 10 * time.Second
	idleTimeout = time.Minute // less than the two that our server keeps them
)

var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3}

// New makes a client. Nothing is sent yet.
func New(c Config) (*Client, error) {
	u, socket, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	if err := checkKey(c, u, socket); err != nil {
		return nil, err
	}
	config, err := tlsConfig(c.CAFile)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAliveConfig: keepAlive}
	transport := &http.Transport{
		TLSClientConfig: config, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
		// A command has a connection of its own, so few are used again and again.
		MaxIdleConnsPerHost:    16,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if socket != "" {
				network, addr = "unix", socket
			}
			return dialer.DialContext(ctx, network, addr)
		},
	}
	cl := &Client{base: u, where: c.URL, header: http.Header{"User-Agent": {c.UserAgent}}}
	if c.Key != "" {
		cl.header.Set("Authorization", "Bearer "+c.Key)
	}
	root := "v1/"
	if p := strings.Trim(c.PathPrefix, "/"); p != "" {
		root += url.PathEscape(p) + "/"
	}
	cl.base = u.JoinPath(root)
	cl.http = &http.Client{
		Transport: transport,
		// To follow one would send the key to whom it names.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return cl, nil
}

// Close lets go of connections that wait for a request.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// String is where the server is.
func (c *Client) String() string { return c.where }

var errURL = errors.New("give http://HOST[:PORT], https://HOST[:PORT] or unix:///PATH")

// parseURL reads where a server is. Of a socket the URL has a name that is
// nobody's.
func parseURL(s string) (u *url.URL, socket string, err error) {
	u, err = url.Parse(s)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("url: %w", errURL) // not err: it repeats all of it, and there may be a key in it
	case u.User != nil:
		return nil, "", fmt.Errorf("url: it has a user in it: give the key apart")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, "", fmt.Errorf("url: it has more than a place: %w", errURL) // which may be a key, too
	case u.Scheme == "unix" && len(u.Path) >= len(syscall.RawSockaddrUnix{}.Path):
		return nil, "", fmt.Errorf("url %q: the path has %d bytes, and no socket can have more than %d", s, len(u.Path), len(syscall.RawSockaddrUnix{}.Path)-1)
	case u.Scheme == "unix" && u.Host == "" && u.Path != "":
		return &url.URL{Scheme: "http", Host: "localhost", Path: "/"}, u.Path, nil
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
		return u, "", nil
	}
	return nil, "", fmt.Errorf("url %q: %w", s, errURL)
}

// checkKey refuses to show a key to everybody on the way.
func checkKey(c Config, u *url.URL, socket string) error {
	switch {
	case strings.ContainsFunc(c.Key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("the API key has characters that none has: spaces, line ends or what is not ASCII")
	case c.Key == "" || c.PlainKey || socket != "" || u.Scheme == "https" || loopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("url %q: the API key would go over the network in the clear; use https, or send it all the same with --plain-http, in Go with Remote.PlainKey", c.URL)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func tlsConfig(caFile string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return config, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: has no certificate in PEM", caFile)
	}
	config.RootCAs = pool
	return config, nil
}
