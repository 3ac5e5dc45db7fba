package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// ListenConfig says where a server is reached. At least one of Socket and Addr
// is set.
type ListenConfig struct {
	Socket string       // path of a unix socket, for this user alone
	Addr   string       // host:port
	Cert   *Certificate // of Addr; nil: no TLS
	Keys   *Keys        // that Addr wants; without any it must be loopback
	Logger *slog.Logger
}

// maxConns bounds the connections of one listener. A client needs one, and one
// more for each command it follows; the descriptors of the process are the
// other bound.
const maxConns = 4096

// Listen opens the listeners. What it refuses it explains.
func Listen(ctx context.Context, c ListenConfig) (ls []net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range ls {
				l.Close()
			}
		}
	}()
	if c.Socket != "" {
		l, err := listenUnix(ctx, c.Socket, c.Logger)
		if err != nil {
			return ls, err
		}
		ls = append(ls, l)
	}
	if c.Addr != "" {
		l, err := listenTCP(ctx, c)
		if err != nil {
			return ls, err
		}
		ls = append(ls, l)
	}
	if len(ls) == 0 {
		return nil, errors.New("neither a socket nor an address to listen on")
	}
	return ls, nil
}

func listenTCP(ctx context.Context, c ListenConfig) (net.Listener, error) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: want HOST:PORT: %w", c.Addr, err)
	}
	wide := !loopback(host)
	if wide && !c.Keys.Any() {
		return nil, fmt.Errorf("address %s: anyone who can reach it could run commands here; set an API key, or listen on 127.0.0.1 or a unix socket", c.Addr)
	}
	if wide && c.Cert == nil && c.Logger != nil {
		c.Logger.Warn("keys and data cross the network in the clear; give a certificate", slog.String("address", c.Addr))
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, err
	}
	l = limit(l)
	if c.Cert == nil {
		return l, nil
	}
	return tls.NewListener(l, c.Cert.config()), nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listenUnix makes a socket that only this user can connect to. The mode of
// the socket says so to the kernel, and the accepted peer is asked once more,
// for the moment before the mode was set.
func listenUnix(ctx context.Context, path string, log *slog.Logger) (net.Listener, error) {
	if most := len(syscall.RawSockaddrUnix{}.Path) - 1; len(path) > most { // with the zero at its end
		return nil, fmt.Errorf("socket %s: its path has %d bytes, and the kernel takes %d: choose a shorter one", path, len(path), most)
	}
	if err := clearStale(ctx, path); err != nil {
		return nil, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return limit(&ownListener{l, os.Getuid(), log}), nil
}

// clearStale removes the socket of a server that is gone, and nothing else.
func clearStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("socket %s: a file that is no socket is there", path)
	}
	d := net.Dialer{Timeout: time.Second}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("socket %s: a server listens on it already", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return os.Remove(path)
}

// ownListener accepts connections of one user, and of root.
type ownListener struct {
	net.Listener
	uid int
	log *slog.Logger
}

func (l *ownListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uid, err := peer(conn)
		if err == nil && (uid == l.uid || uid == 0) {
			return localConn{conn}, nil
		}
		if l.log != nil {
			l.log.Warn("connection of another user refused", slog.Int("uid", uid), slog.Any("err", err))
		}
		conn.Close()
	}
}

// localConn is a connection of the user who runs the server.
type localConn struct{ net.Conn }

// peer is the user at the other end of a unix socket.
func peer(conn net.Conn) (int, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, errors.New("no unix socket")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1, err
	}
	uid := -1
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err != nil {
			failed = err
			return
		}
		uid = int(cred.Uid)
	})
	return uid, errors.Join(err, failed)
}

// limitListener accepts no more than maxConns at a time; others wait in the
// kernel's queue.
type limitListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func limit(l net.Listener) net.Listener {
	return &limitListener{Listener: l, slots: make(chan struct{}, maxConns), done: make(chan struct{})}
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	release func()
}

// NetConn is the connection below, as that of a tls.Conn.
func (c *limitedConn) NetConn() net.Conn { return c.Conn }

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// isLocal tells whether a connection came through the unix socket.
func isLocal(c net.Conn) bool {
	l, ok := c.(*limitedConn)
	if !ok {
		return false
	}
	_, ok = l.Conn.(localConn)
	return ok
}
