package vnet

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

const (
	// maxBody is the longest body of a request that secrets are put into, and
	// of a response that may change its length: what is exchanged as JSON is
	// shorter.
	maxBody = 1 << 20

	// maxBodies bounds the bodies of requests in memory at once.
	maxBodies = 32 << 20
)

// inspects tells whether the connection is to be taken apart: its host gets
// secrets, the address is one that was looked up for it, and it speaks HTTP.
func (w *guarded) inspects(o opening) bool {
	return w.flow.Host != "" && slices.Contains(w.flow.Names, w.flow.Host) && len(w.secretsFor(w.flow.Host)) > 0 &&
		(len(o.protos) == 0 || slices.Contains(o.protos, "h2") || slices.Contains(o.protos, "http/1.1"))
}

// inspect ends the TLS of the client here, with a certificate that the box
// trusts, and begins another with the server, whose certificate must be good.
func (w *guarded) inspect(ctx context.Context, head []byte) {
	s := w.newSession(head, protocols(true, false))
	if s == nil {
		return
	}
	defer s.end()
	s.secrets = w.secretsFor(w.flow.Host)
	s.transport.TLSClientConfig = &tls.Config{RootCAs: w.roots, ServerName: w.flow.Host, MinVersion: tls.VersionTLS12}
	c := tls.Server(&sessionConn{conn: w.client, session: s}, &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return w.authority.leaf(w.flow.Host)
		},
	})
	w.client.SetDeadline(time.Now().Add(headTimeout))
	if err := c.HandshakeContext(ctx); err != nil {
		if distrusts(err) {
			w.note(w.event(egress.KindFlow, w.flow.Host, egress.Verdict{
				Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonAuthority,
			}))
		}
		return
	}
	w.client.SetDeadline(time.Time{})
	w.proxy.serve(s, c)
}

// distrusts tells whether the client ended a handshake because of our certificate:
// with the alerts bad_certificate, certificate_unknown or unknown_ca, which package
// tls has no names for.
func distrusts(err error) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && strings.Contains(remote.Err.Error(), "certificate")
}

// fill puts the secrets into a request. If it cannot go on, it says why.
func (c *call) fill(r *http.Request) (status int, why string) {
	c.upgrade = strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	c.noteMisplaced(c.host, c.secrets, func(text string) bool { return inHeader(r.Header, text) })
	if len(c.secrets) == 0 {
		return 0, ""
	}
	c.exchange = &exchange{secrets: c.secrets}
	c.exchange.fillHeader(r.Header)
	// What comes back must be readable, and so must messages of a websocket.
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Del("Sec-Websocket-Extensions")
	status, why = c.fillBody(r)
	for _, name := range c.exchange.used {
		c.note(c.event(egress.KindSecret, c.flow.Host, egress.Verdict{Action: egress.Allow, Rule: "secret " + name}))
	}
	return status, why
}

// noteMisplaced records placeholders that stay as they are, since their secret is
// for other hosts, or the connection is not encrypted.
func (w *guarded) noteMisplaced(host string, filled []*secret, has func(placeholder string) bool) {
	for i := range w.gate.secrets {
		s := &w.gate.secrets[i]
		if slices.Contains(filled, s) || !has(s.Placeholder) {
			continue
		}
		v := egress.Verdict{Action: egress.Deny, Rule: "secret " + s.Name, Reason: egress.ReasonSecret}
		w.note(w.event(egress.KindSecret, host, v))
	}
}

func inHeader(h http.Header, text string) bool {
	for _, values := range h {
		if slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, text) }) {
			return true
		}
	}
	return false
}

// fillBody puts the secrets into a body that is text of known length.
func (c *call) fillBody(r *http.Request) (status int, why string) {
	n := r.ContentLength
	content := r.Header.Get("Content-Type")
	if n <= 0 || n > maxBody || r.Header.Get("Content-Encoding") != "" || textOf(content) == notText {
		return 0, ""
	}
	if c.bodies.Add(n) > maxBodies {
		c.bodies.Add(-n)
		return http.StatusServiceUnavailable, "too many requests with secrets in their bodies at once; try again"
	}
	c.held = n
	b := make([]byte, n)
	if _, err := io.ReadFull(r.Body, b); err != nil {
		c.release()
		return http.StatusBadRequest, "the body is shorter than the request says"
	}
	b = c.exchange.fillBody(b, content)
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return 0, ""
}

// release gives back what fillBody took.
func (c *call) release() {
	c.bodies.Add(-c.held)
	c.held = 0
}

// scrub takes the secrets out of a response.
//
// The placeholder takes their place, so that a client can send back what it got.
// Where the length of the body was promised and is long, or counts (a part of a
// file, messages of a websocket), asterisks do.
func (x *exchange) scrub(res *http.Response) error {
	pairs := x.scrubs()
	scrubHeader(res.Header, pairs)
	if res.StatusCode == http.StatusSwitchingProtocols {
		stream, ok := res.Body.(io.ReadWriteCloser)
		if !ok {
			return fmt.Errorf("no stream after status %d", res.StatusCode)
		}
		res.Body = &scrubbedStream{scrubber{src: stream, pairs: mask(pairs), eager: true}, stream}
		return nil
	}
	if res.Body == nil || res.Body == http.NoBody {
		return nil
	}
	s := scrubber{src: res.Body, pairs: pairs, eager: true}
	switch coding := strings.ToLower(res.Header.Get("Content-Encoding")); coding {
	case "", "identity":
		if res.ContentLength > maxBody || res.ContentLength >= 0 && res.StatusCode == http.StatusPartialContent {
			s.pairs, s.eager = mask(pairs), false
			break
		}
		changedLength(res)
	case "gzip", "x-gzip":
		s.src = &unzipper{src: res.Body}
		res.Header.Del("Content-Encoding")
		changedLength(res)
	default:
		return fmt.Errorf("the response is compressed (%s) although the request said not to, so it cannot be cleared of secrets", coding)
	}
	res.Body = &scrubbedBody{scrubber: s, res: res, body: res.Body}
	return nil
}

func changedLength(res *http.Response) {
	res.Header.Del("Content-Length")
	res.ContentLength = -1
}

// scrubText takes the secrets out of a message of ours.
func (x *exchange) scrubText(s string) string {
	for _, p := range x.scrubs() {
		s = strings.ReplaceAll(s, string(p.from), string(p.to))
	}
	return s
}

// scrubbedBody is the body of a response without secrets.
type scrubbedBody struct {
	scrubber
	res  *http.Response
	body io.Closer
}

// Close ends the body. What is sent behind it is known now, and scrubbed too.
func (b *scrubbedBody) Close() error {
	err := b.body.Close()
	scrubHeader(b.res.Trailer, b.pairs)
	return err
}

// scrubbedStream is the stream of a websocket. Its frames keep their lengths.
type scrubbedStream struct {
	scrubber
	stream io.ReadWriteCloser
}

// Write passes on what the client says: messages have no placeholders that count.
func (s *scrubbedStream) Write(p []byte) (int, error) { return s.stream.Write(p) }

// Close ends both directions.
func (s *scrubbedStream) Close() error { return s.stream.Close() }

// unzipper begins to read when it is read, since the head of gzip may come late.
type unzipper struct {
	src io.Reader
	zip *gzip.Reader
}

// Read gives what is unpacked.
func (u *unzipper) Read(p []byte) (n int, err error) {
	if u.zip == nil {
		if u.zip, err = gzip.NewReader(u.src); err != nil {
			u.zip = nil
			return 0, err
		}
	}
	return u.zip.Read(p)
}
