package restapi

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// connect turns its connection into one to a port of a box. Unlike a tunnel it
// needs no port of its own, and asks for the key.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	port, err := portQuery(r)
	if err != nil {
		return err
	}
	network := cmp.Or(r.URL.Query().Get("network"), "tcp")
	if !headerHas(r.Header, "Connection", "upgrade") || !headerHas(r.Header, "Upgrade", rest.TunnelProtocol) {
		w.Header().Set("Upgrade", rest.TunnelProtocol)
		return httpapi.InvalidArgument.Errorf("send the request as an upgrade to %s", rest.TunnelProtocol)
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	select {
	case s.tunnels <- struct{}{}:
		defer func() { <-s.tunnels }()
	default:
		return full("%d tunnels are open, the most this server has", maxTunnels)
	}
	to, err := b.DialContext(r.Context(), network, net.JoinHostPort("box", port))
	if err != nil {
		return err
	}
	defer to.Close()
	conn, from, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	cut := context.AfterFunc(s.ctx, func() { conn.Close(); to.Close() })
	defer cut()
	conn.SetDeadline(time.Time{})
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\nX-Request-Id: %s\r\n\r\n",
		rest.TunnelProtocol, httpapi.RequestID(r.Context()))
	if err != nil {
		return nil //nolint:nilerr // the client is gone
	}
	here := &buffered{conn, from.Reader}
	if network[:3] == "udp" {
		joinDatagrams(here, to)
		return nil
	}
	joinConns(here, to)
	return nil
}

// portQuery is the port that the query names.
func portQuery(r *http.Request) (string, error) {
	v := r.URL.Query().Get("port")
	port, err := strconv.ParseUint(v, 10, 16)
	if err != nil || port == 0 {
		return "", httpapi.InvalidArgument.Errorf("port %.20q: give 1 to 65535", v)
	}
	return strconv.FormatUint(port, 10), nil
}

// buffered is a connection of which the first bytes may have been read.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// CloseWrite ends one way, where the connection can.
func (b *buffered) CloseWrite() error {
	if c, ok := b.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return b.Conn.Close()
}

// maxDatagram is the largest of UDP, and what two bytes of length can say.
const maxDatagram = 1<<16 - 1

// joinDatagrams carries datagrams both ways, each with its length before it on
// the side of the client, until either side ends.
func joinDatagrams(client io.ReadWriteCloser, box net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { // ends when box is closed
		defer client.Close()
		buf := make([]byte, 2+maxDatagram)
		for {
			n, err := box.Read(buf[2:])
			if err != nil {
				return
			}
			binary.BigEndian.PutUint16(buf, uint16(n))
			if _, err := client.Write(buf[:2+n]); err != nil {
				return
			}
		}
	})
	buf := make([]byte, maxDatagram)
	for {
		var size [2]byte
		if _, err := io.ReadFull(client, size[:]); err != nil {
			break
		}
		p := buf[:binary.BigEndian.Uint16(size[:])]
		if _, err := io.ReadFull(client, p); err != nil {
			break
		}
		if _, err := box.Write(p); err != nil {
			break
		}
	}
	box.Close()
	wg.Wait()
}
