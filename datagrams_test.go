package boxlite_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

// TestDatagramsOutliveDeadlines: a read that is given up in the middle of a
// datagram loses none and mixes none up; a write that is, ends the connection.
func TestDatagramsOutliveDeadlines(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	stream, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := boxlite.Datagrams(stream)
	defer c.Close()
	buf := make([]byte, 100)
	for n, piece := range []string{"\x00", "\x05he", "llo\x00", "\x00\x00\x01!"} {
		if _, err := io.WriteString(server, piece); err != nil {
			t.Fatal(err)
		}
		if n == 2 || n == 3 {
			continue
		}
		// What has come is read, and then the deadline is over.
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("part of a datagram: got %d, %v", n, err)
		}
	}
	c.SetReadDeadline(time.Time{})
	for _, want := range []string{"hello", "", "!"} {
		n, err := c.Read(buf)
		if got := string(buf[:n]); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	large := []byte(strings.Repeat("x", 60000))
	for err = nil; err == nil; _, err = c.Write(large) {
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a peer that reads nothing: got %v", err)
	}
	came := make(chan []byte)
	go func() { // ends with c
		all, _ := io.ReadAll(server)
		came <- all
	}()
	c.SetWriteDeadline(time.Time{})
	_, _ = c.Write(large)
	c.Close()
	all := <-came
	for len(all) >= 2+len(large) {
		if !strings.HasPrefix(string(all), "\xea\x60x") { // 60000
			t.Fatalf("after half a datagram: got %q, want its length", all[:3])
		}
		all = all[2+len(large):]
	}
}
