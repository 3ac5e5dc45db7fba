package restapi

import (
	"bufio"
	"net"
	"net/http"
	"syscall"
	"time"
)

// lineTimeout is how long what was sent to a client may go without a sign that
// its host has it: then the line is dead. It is that of BoxLite's server for a
// silent one.
const lineTimeout = pingEvery + pingTimeout

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall does not name.
const tcpUserTimeout = 0x12

// hijacked is a ResponseWriter that shows the connection it gave away.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn // nil: it has not
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.conn = conn
	return conn, rw, err
}

// endIfDead makes the kernel end a connection over which nothing gets through
// any more. Output keeps a socket alive as far as its sender can see, until
// buffers are full or the kernel gives up, which takes it a quarter of an hour.
func endIfDead(conn net.Conn, timeout time.Duration) {
	for {
		inner, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		conn = inner.NetConn()
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return // on a unix socket both ends go together
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { // where it is refused, the kernel gives up later
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(timeout.Milliseconds()))
	})
}
