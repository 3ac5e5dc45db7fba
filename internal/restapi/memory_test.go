package restapi

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/coder/websocket"
)

// command is what a socket follows in the tests in memory: it keeps what it is
// told.
type command struct {
	mu      sync.Mutex
	input   bytes.Buffer
	eof     bool
	orders  []string
	refuses bool // takes no input until told otherwise
	takes   sync.Cond
}

func newCommand() *command {
	c := &command{}
	c.takes.L = &c.mu
	return c
}

func (c *command) note(s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders = append(c.orders, s)
	return nil
}

func (c *command) Signal(sig syscall.Signal) error { return c.note("signal " + sig.String()) }
func (c *command) Kill() error                     { return c.note("kill") }
func (c *command) Resize(rows, cols uint16) error {
	if rows == 0 || cols == 0 {
		return c.note("resize to nothing")
	}
	return c.note("resize")
}

// Write is the standard input of the command.
func (c *command) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.refuses {
		c.takes.Wait()
	}
	return c.input.Write(p)
}

func (c *command) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eof = true
	return nil
}

// listen makes the command take input, or not.
func (c *command) listen(does bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refuses = !does
	c.takes.Broadcast()
}

func (c *command) got() (input string, eof bool, orders []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.input.String(), c.eof, slices.Clone(c.orders)
}

// hall is a server of sockets in memory, for one execution, in the time of
// synctest.
type hall struct {
	t   *testing.T
	x   *session
	cmd *command
	f   *follower
	w   wish

	srv   *http.Server
	conns chan net.Conn
	ctx   context.Context
	wg    sync.WaitGroup // of the sockets
}

// inHall runs f in a bubble with a hall, and checks that nothing is left of it.
func inHall(t *testing.T, w wish, f func(h *hall)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h := &hall{
			t: t, cmd: newCommand(), w: w, conns: make(chan net.Conn), ctx: ctx,
			x: newSession("box", "test"),
		}
		h.f = h.follower()
		h.srv = &http.Server{Handler: h}
		l := &memoryListener{h.conns, make(chan struct{})}
		h.wg.Go(func() { _ = h.srv.Serve(l) })
		defer func() {
			cancel()
			h.srv.Close()
			h.cmd.listen(true)
			h.wg.Wait()
		}()
		f(h)
	})
}

// follower is a stream of the command, that ends when it is let go of.
func (h *hall) follower() *follower {
	f := newFollower(h.ctx, nil)
	f.in = newInput()
	h.wg.Go(func() { _, _ = io.Copy(h.cmd, f.in) })
	h.wg.Go(func() {
		<-f.ctx.Done()
		f.in.end()
		close(f.done)
		h.x.ended(f)
	})
	return f
}

// exits ends the command.
func (h *hall) exits(f *follower, code int) {
	f.exit = &exit{code: code, cause: "exited"}
	f.cancel(nil)
}

func (h *hall) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k := newSocket(h.ctx, h.x, h.w, func() controls { return h.cmd })
	defer k.cancel()
	if k.wish.write {
		if err := h.x.claim(k); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
	}
	defer h.x.leave(k)
	if err := h.x.enter(k); err != nil {
		http.Error(w, err.Error(), http.StatusGone)
		return
	}
	f := h.x.unpark(k)
	if f == nil {
		f = h.follower()
		h.x.succeed()
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		h.x.keep(k, f)
		return
	}
	k.serve(conn, f)
}

// dial makes a connection.
func (h *hall) dial() net.Conn {
	client, server := net.Pipe()
	h.conns <- server
	return client
}

// attach makes a WebSocket.
func (h *hall) attach() (*websocket.Conn, *http.Response, error) {
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return h.dial(), nil }}
	defer tr.CloseIdleConnections()
	return websocket.Dial(h.ctx, "http://memory/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: tr}})
}

// first is the client that gets the stream of the start, h.f.
func (h *hall) first() *websocket.Conn {
	h.t.Helper()
	h.x.parked = h.f
	c, _, err := h.attach()
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

type memoryListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	close(l.done)
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }
