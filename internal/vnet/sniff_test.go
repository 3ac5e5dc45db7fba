package vnet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSniffHTTP promises that what a server might take for a request is told
// from other protocols, and that nothing is waited for that need not come.
func TestSniffHTTP(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	for _, tt := range []struct {
		in   string
		want kind
	}{
		{"", unfinished},
		{"GET / HTTP/1.1\r\n", httpLine},
		{"GET / HTTP/1.1\n", httpLine},
		{"\r\n\r\nGET / HTTP/1.1\r\n", httpLine},
		{"get / http/1.1\r\n", httpLine},
		{"GET\t/\tHTTP/1.1\r\n", httpLine},
		{"FROB /x HTTP/1.0\r\n", httpLine},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", httpLine},
		{"GET /\r\n", httpLine},
		{"GET /" + long, httpLine},
		{"FROB /" + long, httpLine},
		{"GET / HTTP/1.1", unfinished},
		{"GE", unfinished},
		{"\r\n", unfinished},
		{strings.Repeat("\r\n", maxHeld/2), hostile},
		{"GET /\x01 HTTP/1.1\r\n", hostile},
		{"get\x0b/ HTTP/1.1\r\n", hostile},
		{"GET\xa0/\xa0HTTP/1.1\r\n", hostile}, // a space of Latin-1
		{"\r\nPOST\x00", hostile},
		{"GETS /\x01", other},
		{"EHLO box\r\n", other},
		{"SSH-2.0-OpenSSH_9.2\r\n", other},
		{"OPTIONS rtsp://camera/ RTSP/1.0\r\n", other},
		{"0032git-upload-pack /p.git\x00host=h", other},
		{"*1\r\n$4\r\nPING\r\n", other},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", other},
		{"{\"id\":1}", other},
		{"\x16\x02\x01\x00\x05", other},
	} {
		if got := sniff([]byte(tt.in)).kind; got != tt.want {
			t.Errorf("%.40q: got %d, want %d", tt.in, got, tt.want)
		}
	}
}

// TestSniffTLS promises that a name is found however it is packed, and that a
// hello which two readers could read differently is refused.
func TestSniffTLS(t *testing.T) {
	whole := hello(t, "allowed.test", "h2", "http/1.1")
	for i := 1; i < len(whole); i++ {
		if got := sniff(whole[:i]).kind; got != unfinished {
			t.Fatalf("%d of %d bytes: got %d, want unfinished", i, len(whole), got)
		}
	}
	for _, n := range []int{1, 3, 100} {
		got := sniff(inRecords(whole, n))
		if got.kind != tlsHello || got.name != "allowed.test" || !slices.Equal(got.protos, []string{"h2", "http/1.1"}) {
			t.Errorf("records of %d bytes: got %+v", n, got)
		}
	}
	name := append([]byte{0, 0, 0, 17, 0, 15, 0, 0, 12}, "allowed.test"...)
	for _, tt := range []struct {
		name       string
		extensions []byte
		want       kind
	}{
		{"one name", name, tlsHello},
		{"the extension twice", append(slices.Clone(name), name...), hostile},
		{"two names", append([]byte{0, 0, 0, 10, 0, 8, 0, 0, 1, 'a', 0, 0, 1, 'b'}, name[:0]...), hostile},
		{"an empty name", []byte{0, 0, 0, 5, 0, 3, 0, 0, 0}, hostile},
		{"a name that is too short", append([]byte{0, 0, 0, 17, 0, 15, 0, 0, 13}, "allowed.test"...), hostile},
		{"bytes after the names", []byte{0, 0, 0, 8, 0, 4, 0, 0, 1, 'a', 1, 2}, hostile},
		{"half an extension", name[:8], hostile},
		{"no protocols", []byte{0, 16, 0, 2, 0, 0}, hostile},
	} {
		if got := sniff(helloWith(tt.extensions)).kind; got != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct {
		name string
		b    []byte
	}{
		{"an alert first", []byte{0x15, 3, 1, 0, 2, 1, 0}},
		{"a change of cipher first", []byte{0x14, 3, 3, 0, 1, 1}},
		{"an empty record", []byte{0x16, 3, 1, 0, 0}},
		{"another message", []byte{0x16, 3, 1, 0, 4, 2, 0, 0, 0}},
		{"too long", []byte{0x16, 3, 1, 0, 4, 1, 1, 0, 0}},
		{"an alert between", append(inRecords(whole, 100)[:105], 0x15, 3, 1, 0, 2, 1, 0)},
	} {
		if got := sniff(tt.b).kind; got != hostile {
			t.Errorf("%s: got %d, want hostile", tt.name, got)
		}
	}
}

// helloWith makes a hello with these extensions.
func helloWith(extensions []byte) []byte {
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0x13, 1, 1, 0, byte(len(extensions)>>8), byte(len(extensions)))
	body = append(body, extensions...)
	n := len(body)
	return append([]byte{0x16, 3, 1, byte((n + 4) >> 8), byte(n + 4), 1, 0, byte(n >> 8), byte(n)}, body...)
}

// FuzzSniff compares with crypto/tls: a hello that a server of Go would take must
// not pass under another name, nor as something else.
func FuzzSniff(f *testing.F) {
	f.Add(hello(f, "allowed.test", "h2"))
	f.Add(inRecords(hello(f, "allowed.test"), 9))
	f.Add(helloWith(append([]byte{0, 0, 0, 17, 0, 15, 0, 0, 12}, "allowed.test"...)))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got := sniff(b)
		name, ok := readHello(b)
		if ok && len(b) <= maxHeld && got.kind != hostile && (got.kind != tlsHello || got.name != name) {
			t.Errorf("%x: got %+v, crypto/tls reads %q", b, got, name)
		}
		for i := range b {
			if early := sniff(b[:i]); early.kind != unfinished && early.kind != got.kind {
				t.Fatalf("%x: %d after %d bytes, %d in the end", b, early.kind, i, got.kind)
			}
		}
	})
}

// readHello lets crypto/tls read a hello.
func readHello(b []byte) (name string, ok bool) {
	stop := errors.New("stop")
	_ = tls.Server(&reader{Reader: bytes.NewReader(b)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, stop
		},
	}).HandshakeContext(context.Background())
	return name, ok
}

// reader is a connection that only reads.
type reader struct {
	io.Reader
	net.Conn
}

func (r *reader) Read(b []byte) (int, error)       { return r.Reader.Read(b) }
func (r *reader) Write(b []byte) (int, error)      { return len(b), nil }
func (r *reader) Close() error                     { return nil }
func (r *reader) SetWriteDeadline(time.Time) error { return nil }
