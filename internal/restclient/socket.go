package restclient

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"

	"github.com/coder/websocket"
)

// maxMessage bounds a message of a socket, in bytes. Servers send output in
// pieces of 64 KiB.
const maxMessage = 1 << 20

// Socket opens a WebSocket. The caller closes it; ctx is for the opening alone.
func (c *Client) Socket(ctx context.Context, r Request) (*websocket.Conn, error) {
	r.Method = http.MethodGet
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	//nolint:bodyclose // the library has closed it, or made it the socket
	conn, resp, err := websocket.Dial(ctx, req.URL.String(), &websocket.DialOptions{
		HTTPClient: c.http, HTTPHeader: req.Header, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if resp != nil && resp.StatusCode >= 300 {
			return nil, c.refusal(resp)
		}
		return nil, c.broken(ctx, err)
	}
	conn.SetReadLimit(maxMessage)
	return conn, nil
}

// Conn is a connection that came of an upgrade. It can be closed one way.
type Conn struct {
	net.Conn
	body io.ReadWriteCloser // with what was read too early
}

// Upgrade makes the connection of a request speak another protocol.
func (c *Client) Upgrade(ctx context.Context, r Request, protocol string) (*Conn, error) {
	r.Method = http.MethodGet
	var conn net.Conn
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn },
	})
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.broken(ctx, err)
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		defer resp.Body.Close()
		if resp.StatusCode < 300 {
			return nil, fmt.Errorf("server %s: answers an upgrade with %s", c.where, resp.Status)
		}
		return nil, c.refusal(resp)
	}
	return &Conn{conn, body}, nil
}

func (c *Conn) Read(p []byte) (int, error) { return c.body.Read(p) }

func (c *Conn) Write(p []byte) (int, error) { return c.body.Write(p) }

// Close closes both ways.
func (c *Conn) Close() error { return c.body.Close() }

// CloseWrite ends what is sent; what the other side sends still comes.
func (c *Conn) CloseWrite() error {
	if w, ok := c.body.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.body.Close()
}
