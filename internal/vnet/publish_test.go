package vnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"

	"github.com/boxlite-go/boxlite/egress"
)

// say answers each connection of a listener in the box with what it hears.
func say(t testing.TB, l *gonet.TCPListener) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its connection
				io.Copy(c, c)
				c.(*gonet.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	t.Cleanup(func() { l.Shutdown(); <-done })
}

// exchangeBytes sends what is given and reads it back to the end.
func exchangeBytes(t testing.TB, c net.Conn, want []byte) {
	t.Helper()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		c.Write(want)
		c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

// TestPublishTCP promises that a port can be opened before there is a box, that
// what connects meanwhile waits, and that the host chooses a port for 0.
func TestPublishTCP(t *testing.T) {
	log := newEventLog()
	b := newBox(t, Config{Record: log.record})
	got, err := b.net.Publish([]Port{{Proto: egress.TCP, Box: 8080}})
	if err != nil {
		t.Fatal(err)
	}
	if a := got[0].Host; a.Addr() != netip.MustParseAddr("127.0.0.1") || a.Port() == 0 || got[0].Box != 8080 {
		t.Fatalf("got %+v, want a port of 127.0.0.1 for 8080", got)
	}
	early, err := net.Dial("tcp", got[0].Host.String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	say(t, b.listen(8080))
	b.net.Accept()
	exchangeBytes(t, early, bytes.Repeat([]byte("ab"), 100_000))
	e := log.await(t, "the flow in", func(e egress.Event) bool { return e.Direction == egress.In && e.Closed })
	if e.Received != 200_000 || e.Sent != 200_000 || e.Addr != "192.168.127.2:8080" {
		t.Errorf("got %+v, want 200000 bytes each way to 192.168.127.2:8080", e)
	}
}

// TestPublishAtAllAddresses promises that who asks for all addresses of IPv4 opens
// none of IPv6, and that it is told as it was asked for.
func TestPublishAtAllAddresses(t *testing.T) {
	n := newBox(t, Config{}).net
	for _, proto := range []egress.Proto{egress.TCP, egress.UDP} {
		for addr, both := range map[string]bool{"0.0.0.0": false, "::": true} {
			want := netip.MustParseAddr(addr)
			got, err := n.Publish([]Port{{Proto: proto, Host: netip.AddrPortFrom(want, 0), Box: 1}})
			if err != nil {
				t.Fatal(err)
			}
			if a := got[0].Host.Addr(); a != want {
				t.Errorf("%s at %s: told %s", proto, want, a)
			}
			for loopback, taken := range map[string]bool{"127.0.0.1": both || want.Is4(), "::1": want.Is6()} {
				l, err := listen(Port{proto, netip.AddrPortFrom(netip.MustParseAddr(loopback), got[0].Host.Port()), 1})
				if err == nil {
					l.Close()
				}
				if errors.Is(err, syscall.EADDRINUSE) != taken {
					t.Errorf("%s at %s: listening at %s: got %v, want it taken: %t", proto, want, loopback, err, taken)
				}
			}
		}
	}
}

// TestPublishNobodyListens promises a reset, as from a host that does not listen.
func TestPublishNobodyListens(t *testing.T) {
	b := newBox(t, Config{})
	got, err := b.net.Publish([]Port{{Proto: egress.TCP, Box: 81}})
	if err != nil {
		t.Fatal(err)
	}
	b.net.Accept()
	c, err := net.Dial("tcp", got[0].Host.String())
	if err == nil { // the reset can be faster than that
		defer c.Close()
		_, err = io.ReadAll(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

// TestPublishConflict promises that it is all ports or none.
func TestPublishConflict(t *testing.T) {
	taken := serve(t, "127.0.0.1:0", repeat).(*net.TCPAddr).AddrPort()
	b := newBox(t, Config{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	_, err = b.net.Publish([]Port{{egress.TCP, first, 1}, {egress.TCP, taken, 2}})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a port that is taken: got %v, want EADDRINUSE", err)
	}
	l, err := net.Listen("tcp", first.String())
	if err != nil {
		t.Fatalf("the other port after that: %v", err)
	}
	l.Close()
}

func TestPublishUDP(t *testing.T) {
	b := newBox(t, Config{})
	got, err := b.net.Publish([]Port{{Proto: egress.UDP, Box: 53}})
	if err != nil {
		t.Fatal(err)
	}
	b.net.Accept()
	full := fullAddress(netip.AddrPortFrom(BoxIPv4.Addr(), 53))
	in, err := gonet.DialUDP(b.stack, &full, nil, protocolOf(BoxIPv4.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			in.WriteTo(append([]byte("re: "), buf[:n]...), from)
		}
	}()
	defer func() { in.Close(); <-done }()
	for i := range 3 { // each has its own way back
		c, err := net.Dial("udp", got[0].Host.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintf(c, "client %d", i)
		buf := make([]byte, 100)
		n, err := c.Read(buf)
		if want := fmt.Sprintf("re: client %d", i); err != nil || string(buf[:n]) != want {
			t.Errorf("got %q, %v; want %q", buf[:n], err, want)
		}
	}
	if n := b.net.Stats().Open; n != 3 {
		t.Errorf("three clients: %d flows", n)
	}
}

// TestDial promises a connection that does what net.Conn says, into the box.
func TestDial(t *testing.T) {
	b := newBox(t, Config{})
	say(t, b.listen(8080))
	c, err := b.net.DialContext(t.Context(), "tcp", 8080)
	if err != nil {
		t.Fatal(err)
	}
	exchangeBytes(t, c, bytes.Repeat([]byte("dial"), 100_000))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.net.DialContext(t.Context(), "tcp", 81); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: got %v, want ECONNREFUSED", err)
	}
	if _, err := b.net.DialContext(t.Context(), "unix", 81); !errors.As(err, new(net.UnknownNetworkError)) {
		t.Errorf("network unix: got %v, want UnknownNetworkError", err)
	}
}

// TestDialWaitsNoLongerThanCtx promises that a box that does not answer does not
// hold its caller up.
func TestDialWaitsNoLongerThanCtx(t *testing.T) {
	n, err := New(Config{}) // and nobody at the other end of the link
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := n.DialContext(ctx, "tcp", 80); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.DialContext(t.Context(), "tcp", 80); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want ErrClosed", err)
	}
	if _, err := n.Publish([]Port{{Proto: egress.TCP, Box: 1}}); !errors.Is(err, ErrClosed) {
		t.Errorf("publish after Close: got %v, want ErrClosed", err)
	}
}

// TestHalfClosedCounts promises that a box cannot pile up connections that the
// other side has closed, by not closing them: they count until they are gone.
func TestHalfClosedCounts(t *testing.T) {
	b := newBox(t, Config{})
	l := b.listen(8080)
	c, err := b.net.DialContext(t.Context(), "tcp", 8080)
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := in.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("read in the box: got %v, want EOF", err)
	}
	if n := b.net.Stats().Open; n != 1 {
		t.Errorf("the box has not closed its side: %d flows are open, want 1", n)
	}
	in.Close()
	b.idle()
}

// TestCloseEndsForgottenDials promises that Close does not wait for those who
// never close what they dialled.
func TestCloseEndsForgottenDials(t *testing.T) {
	b := newBox(t, Config{})
	say(t, b.listen(8080))
	c, err := b.net.DialContext(t.Context(), "tcp", 8080)
	if err != nil {
		t.Fatal(err)
	}
	u, err := b.net.DialContext(t.Context(), "udp", 8080)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.net.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{c, u} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("read after Close: got nil, want an error")
		}
		c.Close()
	}
}
