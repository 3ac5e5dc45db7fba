package vnet

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/boxlite-go/boxlite/egress"
)

// session is the connection of a client whose requests are looked at.
type session struct {
	*guarded
	head      []byte    // what the client has said already
	secrets   []*secret // of the host; if there are any, the connection is encrypted
	transport *http.Transport
	first     chan conn // to the server, dialled before; whoever takes it closes it
	over      chan struct{}
}

// newSession is nil if there are too many, which it records; else end must be
// called.
func (w *guarded) newSession(head []byte, p *http.Protocols) *session {
	n := w.proxy.sessions.Add(1)
	if n > maxSessions {
		w.proxy.sessions.Add(-1)
		w.refuse(opening{}, tooMany)
		return nil
	}
	s := &session{guarded: w, head: head, first: make(chan conn, 1), over: make(chan struct{})}
	s.first <- w.server
	s.transport = &http.Transport{
		DialContext:         s.connect,
		Protocols:           p,
		DisableCompression:  true, // what the client asks for is what it gets
		TLSHandshakeTimeout: connectTimeout,
		IdleConnTimeout:     upstreamIdle,
		MaxConnsPerHost:     maxUpstream,
		MaxIdleConnsPerHost: maxUpstreamIdle,

		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: window(n),
			MaxReceiveBufferPerStream:     window(n),
		},
	}
	return s
}

// end gives back what newSession took.
func (s *session) end() {
	s.transport.CloseIdleConnections()
	s.proxy.sessions.Add(-1)
}

// tooMany is why something is refused that would be allowed at another time.
var tooMany = egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonLimit}

// connect reaches the server whatever it is asked for: requests were judged by
// their host, and go to the address that the client chose.
func (s *session) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	select {
	case c := <-s.first:
		return c, nil
	default:
		return s.dial(ctx)
	}
}

// secure tells whether the connection is encrypted: then it is for one host.
func (s *session) secure() bool { return len(s.secrets) > 0 }

func (s *session) scheme() string {
	if s.secure() {
		return "https"
	}
	return "http"
}

// sessionConn is what the server reads of a session.
type sessionConn struct {
	conn
	session *session
	once    sync.Once
}

// Read gives what was held back first.
func (c *sessionConn) Read(p []byte) (int, error) {
	if head := c.session.head; len(head) > 0 {
		n := copy(p, head)
		if c.session.head = head[n:]; n == len(head) {
			c.session.head = nil
		}
		return n, nil
	}
	return c.conn.Read(p)
}

// Close ends the session.
func (c *sessionConn) Close() error {
	err := c.conn.Close()
	c.once.Do(func() { close(c.session.over) })
	return err
}
