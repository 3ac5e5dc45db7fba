package vnet

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/boxlite-go/boxlite/egress"
)

// serveUDP runs a server on the host that says what it hears.
func serveUDP(t testing.TB, addr string) net.Addr {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteTo(buf[:n], from)
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return c.LocalAddr()
}

func TestUDPReachesWhatIsAllowed(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(loopback, func(t *testing.T) {
			log := newEventLog()
			to := alias(serveUDP(t, loopback))
			b := newBox(t, Config{Policy: hostAllowed(), Record: log.record})
			c := b.dialUDP(to)
			c.SetDeadline(time.Now().Add(20 * time.Second))
			for _, size := range []int{1, 1400, 60_000} {
				want := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := c.Write(want); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 64<<10)
				n, err := c.Read(got)
				if err != nil || !bytes.Equal(got[:n], want) {
					t.Fatalf("echo of %d bytes: got %d bytes, %v", size, n, err)
				}
			}
			e := log.await(t, "the flow", func(e egress.Event) bool { return e.Proto == egress.UDP })
			if e.Addr != to.String() || e.Action != egress.Allow {
				t.Errorf("got %+v, want an allowed flow to %s", e, to)
			}
			if n := b.net.Stats().Open; n != 1 {
				t.Errorf("three datagrams of one socket: %d flows, want 1", n)
			}
		})
	}
}

// TestUDPRefusal promises that a refused datagram is answered at once, so that a
// program falls back, from QUIC to TCP for one, without waiting.
func TestUDPRefusal(t *testing.T) {
	log := newEventLog()
	b := newBox(t, Config{Record: log.record})
	for _, to := range []string{"10.1.2.3:443", "[fd00::1]:443", "8.8.8.8:53", "192.168.127.254:9"} {
		c := b.dialUDP(netip.MustParseAddrPort(to))
		c.Write([]byte("x"))
		if err := awaitUDPError(c); !isRefused(err) {
			t.Errorf("UDP to %s: got %v, want a refusal", to, err)
		}
		log.await(t, "refusal of "+to, func(e egress.Event) bool { return e.Addr == to && e.Action == egress.Deny })
	}
}

// awaitUDPError waits for what ICMP says of a socket.
func awaitUDPError(c *boxPort) error {
	entry, failed := waiter.NewChannelEntry(waiter.EventErr)
	c.queue.EventRegister(&entry)
	defer c.queue.EventUnregister(&entry)
	for deadline := time.After(20 * time.Second); ; {
		if err := c.ep.LastError(); err != nil {
			return errors.New(err.String())
		}
		select {
		case <-failed:
		case <-deadline:
			return errors.New("silence")
		}
	}
}

// TestUDPUpstreamRefusal promises the same for a port that nobody listens on.
func TestUDPUpstreamRefusal(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.ListenPacket("udp", loopback)
		if err != nil {
			t.Fatal(err)
		}
		to := alias(l.LocalAddr())
		l.Close()
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.dialUDP(to)
		c.Write([]byte("x"))
		if err := awaitUDPError(c); !isRefused(err) {
			t.Errorf("UDP to %s, where nobody listens: got %v, want a refusal", to, err)
		}
	}
}

// TestUDPPolicyChange promises that a UDP flow ends with its permission.
func TestUDPPolicyChange(t *testing.T) {
	to := alias(serveUDP(t, "127.0.0.1:0"))
	b := newBox(t, Config{Policy: hostAllowed()})
	c := b.dialUDP(to)
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := b.net.SetPolicy(egress.Policy{}); err != nil {
		t.Fatal(err)
	}
	c.Write([]byte("y"))
	if err := awaitUDPError(c); !isRefused(err) {
		t.Errorf("after the change: got %v, want a refusal", err)
	}
}

// TestUDPIdle promises that an idle flow ends.
func TestUDPIdle(t *testing.T) {
	to := alias(serveUDP(t, "127.0.0.1:0"))
	b := newBox(t, Config{Policy: hostAllowed()})
	fl, ok := b.net.begin(b.net.describe(egress.UDP, to), egress.Out, egress.Verdict{Action: egress.Allow})
	if !ok {
		t.Fatal("begin")
	}
	defer b.net.end(fl)
	shut := make(chan struct{})
	w := watch(fl, 10*time.Millisecond, func() { close(shut) })
	w.touch()
	<-shut
	if quiet := time.Since(w.since) - time.Duration(w.last.Load()); quiet < 10*time.Millisecond {
		t.Errorf("the flow ended after %v without a datagram, want at least 10ms", quiet)
	}
	w.stop()
	fl.resets = nil
}

// TestManyUDPFlows promises that flows are bounded, and say so.
func TestManyUDPFlows(t *testing.T) {
	log := newEventLog()
	to := alias(serveUDP(t, "127.0.0.1:0"))
	b := newBox(t, Config{Policy: hostAllowed(), Record: log.record})
	for range maxUDP {
		c := b.dialUDP(to)
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
	c := b.dialUDP(to)
	c.Write([]byte("x"))
	if err := awaitUDPError(c); !isRefused(err) {
		t.Errorf("flow %d: got %v, want a refusal", maxUDP+1, err)
	}
	log.await(t, "a refusal for the number of flows", func(e egress.Event) bool { return e.Reason == egress.ReasonLimit })
	if n := b.net.Stats().Open; n > maxUDP {
		t.Errorf("%d UDP flows are open, want at most %d", n, maxUDP)
	}
}
