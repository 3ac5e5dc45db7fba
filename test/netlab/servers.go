package netlab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Ports on which every address of the laboratory answers by TCP.
const (
	portEcho  = 7
	portSSH   = 22 // speaks first
	portHTTP  = 80
	portHTTPS = 443
	portAlt   = 8080 // HTTP too
	portAltS  = 8443 // HTTPS too
)

// datagrams are the addresses at which a UDP server answers with what it got;
// one that answers for a whole range could not say from where.
var datagrams = []string{
	Allowed4 + ":7", Other4 + ":7", Allowed4 + ":443", "[" + Allowed6 + "]:7", "[" + Allowed6 + "]:443",
	"169.254.169.254:80", "10.1.2.3:7", "[fd00:ec2::254]:7", "[64:ff9b::a01:203]:7",
}

func (w *World) serve() error {
	mux := http.HandlerFunc(w.page)
	config := &tls.Config{GetCertificate: w.authority.certificate, NextProtos: []string{"h2", "http/1.1"}}
	for _, s := range []struct {
		port  int
		serve func(net.Listener)
	}{
		{portEcho, each(func(c net.Conn) { io.Copy(c, c) })},
		{portSSH, each(banner)},
		{portHTTP, web(mux, nil)},
		{portAlt, web(mux, nil)},
		{portHTTPS, web(mux, config)},
		{portAltS, web(mux, config)},
	} {
		l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", s.port))
		if err != nil {
			return err
		}
		go s.serve(counting{l, w})
	}
	for _, addr := range datagrams {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		go w.echo(c)
	}
	return w.serveDNS()
}

// counting counts the connections that it accepts.
type counting struct {
	net.Listener
	world *World
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.world.hit("tcp", c.LocalAddr(), c.RemoteAddr())
	}
	return c, err
}

// each serves every connection by f.
func each(f func(net.Conn)) func(net.Listener) {
	return func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}
}

func web(h http.Handler, config *tls.Config) func(net.Listener) {
	return func(l net.Listener) {
		s := &http.Server{Handler: h, TLSConfig: config, ReadHeaderTimeout: time.Minute, ErrorLog: quiet}
		if config == nil {
			s.Serve(l)
		} else {
			s.ServeTLS(l, "", "")
		}
	}
}

// banner speaks first, and echoes then, as SSH and mail servers do.
func banner(c net.Conn) {
	io.WriteString(c, "SSH-2.0-lab\r\n")
	io.Copy(c, c)
}

func (w *World) echo(c net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			w.hit("udp", c.LocalAddr(), from)
			c.WriteTo(buf[:n], from)
		}
	}
}

// page is the one site that all names have. What it says of itself lets a test
// know where it came out.
func (w *World) page(rw http.ResponseWriter, r *http.Request) {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); first {
	case "redirect":
		http.Redirect(rw, r, r.URL.Query().Get("to"), http.StatusFound)
	case "echo":
		r.Header.Write(rw)
		io.Copy(rw, r.Body)
	case "big":
		n, _ := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64)
		io.CopyN(rw, zeros{}, n)
	case "files":
		w.files(rw, r, rest)
	case "git":
		w.git(rw, r)
	default:
		fmt.Fprintf(rw, "host=%s at=%s tls=%t path=%s\n", r.Host, plainAddr(local), r.TLS != nil, r.URL.Path)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w *World) files(rw http.ResponseWriter, r *http.Request, rest string) {
	name, _, _ := strings.Cut(rest, "/")
	w.mu.Lock()
	dir := w.dirs[name]
	w.mu.Unlock()
	if dir == "" {
		http.NotFound(rw, r)
		return
	}
	http.StripPrefix("/files/"+name, http.FileServer(http.Dir(dir))).ServeHTTP(rw, r)
}

// git runs git's own server program.
func (w *World) git(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	dir := w.gitIn
	w.mu.Unlock()
	h := &cgi.Handler{
		Path: gitBackend(),
		Root: "/git",
		Env: []string{
			"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=lab",
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		},
		InheritEnv: []string{"HOME"},
	}
	h.ServeHTTP(rw, r)
}

// gitBackend is where Debian and others keep it.
func gitBackend() string {
	for _, dir := range []string{"/usr/lib/git-core", "/usr/libexec/git-core"} {
		if p := filepath.Join(dir, "git-http-backend"); exists(p) {
			return p
		}
	}
	return "git-http-backend"
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// plainAddr writes an address of either family in its shortest form.
func plainAddr(a net.Addr) string {
	p, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port()).String()
}

// Get fetches a URL from the test process itself, to show that a server is there.
func (l *Lab) Get(ctx context.Context, url string) (string, error) {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: l.Pool()}, DialContext: l.dialer().DialContext}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(b), err
}

// dialer knows the names of the laboratory.
func (l *Lab) dialer() *net.Dialer {
	return &net.Dialer{Timeout: 10 * time.Second, Resolver: &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, Resolver)
		},
	}}
}
