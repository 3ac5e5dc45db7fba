package vnet

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// The benchmarks run the same through a network and over plain loopback, so that
// a number can be read as a ratio on any machine.

type dialer func() (net.Conn, error)

// ways are how a client reaches a server of the host.
func ways(b *testing.B, addr net.Addr, run func(b *testing.B, dial dialer)) {
	b.Run("loopback", func(b *testing.B) {
		run(b, func() (net.Conn, error) { return net.Dial("tcp", addr.String()) })
	})
	b.Run("vnet", func(b *testing.B) {
		box := newBox(b, Config{Policy: hostAllowed()})
		run(b, func() (net.Conn, error) { return box.dial(alias(addr)) })
	})
}

const piece = 256 << 10 // bytes written at once

// BenchmarkUp is how fast a box sends to one connection.
func BenchmarkUp(b *testing.B) {
	addr := serve(b, "127.0.0.1:0", func(c *net.TCPConn) {
		// Not io.Discard itself, into which splice could skip the copy.
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, piece))
		c.Write([]byte{1})
	})
	ways(b, addr, func(b *testing.B, dial dialer) {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, piece)
		b.SetBytes(piece)
		for b.Loop() {
			if _, err := c.Write(buf); err != nil {
				b.Fatal(err)
			}
		}
		c.(interface{ CloseWrite() error }).CloseWrite()
		io.ReadFull(c, buf[:1]) // until all has arrived
	})
}

// BenchmarkDown is how fast a box receives from one connection.
func BenchmarkDown(b *testing.B) {
	addr := serve(b, "127.0.0.1:0", func(c *net.TCPConn) {
		buf := make([]byte, piece)
		for {
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	ways(b, addr, func(b *testing.B, dial dialer) {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, piece)
		b.SetBytes(piece)
		for b.Loop() {
			if _, err := io.ReadFull(c, buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkConnect is a connection, a byte each way, and its end.
func BenchmarkConnect(b *testing.B) {
	addr := serve(b, "127.0.0.1:0", repeat)
	ways(b, addr, func(b *testing.B, dial dialer) {
		var took []time.Duration
		var one [1]byte
		for b.Loop() {
			start := time.Now()
			c, err := dial()
			if err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
			c.Write(one[:])
			if _, err := io.ReadFull(c, one[:]); err != nil {
				b.Fatal(err)
			}
			c.Close()
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-connect-ns")
	})
}

// BenchmarkRoundTrip is a byte there and back on a connection.
func BenchmarkRoundTrip(b *testing.B) {
	addr := serve(b, "127.0.0.1:0", repeat)
	ways(b, addr, func(b *testing.B, dial dialer) {
		c, err := dial()
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		var one [1]byte
		for b.Loop() {
			c.Write(one[:])
			if _, err := io.ReadFull(c, one[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRefusal is a connection that the policy refuses.
func BenchmarkRefusal(b *testing.B) {
	box := newBox(b, Config{})
	to := netip.MustParseAddrPort("10.0.0.1:80")
	for b.Loop() {
		if _, err := box.dial(to); !isRefused(err) {
			b.Fatal(err)
		}
	}
}

// BenchmarkNew is the making and the end of a network, and what an idle one keeps
// on the heap.
func BenchmarkNew(b *testing.B) {
	const several = 16
	before := heap()
	var ns []*Network
	for range several {
		n, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		ns = append(ns, n)
	}
	kept := float64(heap()-before) / several
	for _, n := range ns {
		n.Close()
	}
	for b.Loop() {
		n, err := New(Config{})
		if err != nil {
			b.Fatal(err)
		}
		n.Close()
	}
	b.ReportMetric(kept, "idle-B")
}
