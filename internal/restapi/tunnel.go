package restapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// tunnelReply says where a tunnel begins.
type tunnelReply struct {
	URI string `json:"uri"`
}

// Bounds of tunnels. BoxLite's clients connect at once, and send no key: what
// protects a tunnel is that its port is for one connection, for a short time,
// on the address at which the client has reached the server.
const (
	tunnelWait = 30 * time.Second // for the client to connect
	maxTunnels = 256
)

// tunnel prepares one connection to a port of a box: a listener of its own,
// that answers one CONNECT.
func (s *Server) tunnel(w http.ResponseWriter, r *http.Request) error {
	port, err := portQuery(r)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := s.ready(r.Context(), b); err != nil {
		return err
	}
	host := "127.0.0.1"
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		host = a.IP.String()
	}
	select {
	case s.tunnels <- struct{}{}:
	default:
		return full("%d tunnels are open, the most this server has", maxTunnels)
	}
	l, err := new(net.ListenConfig).Listen(s.ctx, "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		<-s.tunnels
		return err
	}
	s.wg.Go(func() { // ends with the tunnel, or with the server
		defer func() { <-s.tunnels }()
		if err := s.serveTunnel(l.(*net.TCPListener), b, port); err != nil && s.ctx.Err() == nil {
			s.log.Info("tunnel ended", slog.String("box", b.ID()), slog.Any("err", err))
		}
	})
	httpapi.WriteJSON(w, http.StatusOK, tunnelReply{"http://" + l.Addr().String()})
	return nil
}

// serveTunnel waits for the one client of a tunnel and joins it to the box.
func (s *Server) serveTunnel(l *net.TCPListener, b *boxlite.Box, port string) error {
	defer l.Close()
	stop := context.AfterFunc(s.ctx, func() { l.Close() })
	defer stop()
	_ = l.SetDeadline(time.Now().Add(tunnelWait)) // a listener that was just made has one
	conn, err := l.Accept()
	if err != nil {
		return err
	}
	l.Close()
	defer conn.Close()
	cut := context.AfterFunc(s.ctx, func() { conn.Close() })
	defer cut()
	conn.SetReadDeadline(time.Now().Add(tunnelWait))
	from := bufio.NewReader(io.LimitReader(conn, maxConnect))
	req, err := http.ReadRequest(from)
	if err != nil {
		return err
	}
	if req.Method != http.MethodConnect {
		_, err := io.WriteString(conn, "HTTP/1.1 405 Method Not Allowed\r\nAllow: CONNECT\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return errors.Join(fmt.Errorf("method %.20q, want CONNECT", req.Method), err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, tunnelWait)
	defer cancel()
	to, err := b.DialContext(ctx, "tcp", net.JoinHostPort("box", port))
	if err != nil {
		_, werr := io.WriteString(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		return errors.Join(err, werr)
	}
	defer to.Close()
	conn.SetReadDeadline(time.Time{})
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return err
	}
	early, _ := from.Peek(from.Buffered())
	if _, err := to.Write(early); err != nil {
		return err
	}
	joinConns(conn, to)
	return nil
}

// maxConnect bounds the head of a CONNECT, in bytes.
const maxConnect = 16 << 10

// joinConns copies both ways until both have ended.
func joinConns(a, b net.Conn) {
	var wg sync.WaitGroup
	one := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if c, ok := to.(interface{ CloseWrite() error }); ok && err == nil {
			_ = c.CloseWrite() // the other way may go on
			return
		}
		to.Close()
		from.Close()
	}
	wg.Go(func() { one(a, b) })
	wg.Go(func() { one(b, a) })
	wg.Wait()
}
