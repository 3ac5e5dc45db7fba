package vnet

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// TestManyConnectionsAtOnce promises a thousand connections that are open
// together, and that the next in number are answered rather than lost.
func TestManyConnectionsAtOnce(t *testing.T) {
	many := 1000
	if testing.Short() {
		many = 200 // the race detector makes each ten times as slow
	}
	to := alias(serve(t, "127.0.0.1:0", repeat))
	b := newBox(t, Config{Policy: hostAllowed()})
	var wg sync.WaitGroup
	var open sync.WaitGroup
	open.Add(many)
	var failed atomic.Int64
	for i := range many {
		wg.Go(func() {
			var once sync.Once
			defer once.Do(open.Done)
			c, err := b.dial(to)
			if err != nil {
				failed.Add(1)
				t.Errorf("connection %d: %v", i, err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			want := fmt.Sprintf("this is connection %d", i)
			fmt.Fprint(c, want)
			once.Do(open.Done)
			open.Wait() // until all are there
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("connection %d: got %q, %v", i, got, err)
			}
		})
	}
	open.Wait()
	if n := b.net.Stats().Connections; n < uint64(many)-uint64(failed.Load()) {
		t.Errorf("%d connections are open, want %d", n, many)
	}
	wg.Wait()
}

// TestManyConnectionsInSequence promises that ten thousand connections leave
// nothing: no goroutine, no file descriptor, no memory.
func TestManyConnectionsInSequence(t *testing.T) {
	to := alias(serve(t, "127.0.0.1:0", repeat))
	b := newBox(t, Config{Policy: hostAllowed()})
	wait := tcpip.TCPTimeWaitTimeoutOption(time.Millisecond) // the box's end is not what is measured
	b.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &wait)
	run := func(n int) {
		for i := range n {
			c, err := b.dial(to)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			c.Write([]byte("x"))
			c.CloseWrite()
			if got, err := io.ReadAll(c); err != nil || string(got) != "x" {
				t.Fatalf("connection %d: got %q, %v", i, got, err)
			}
			c.Close()
		}
	}
	run(500) // what is kept for later is there now
	b.idle()
	before, memory := resources(), heap()
	many := 10_000
	if testing.Short() {
		many = 1000 // the race detector makes each ten times as slow
	}
	run(many)
	b.idle()
	before.compare(t)
	// One connection's memory is some kilobytes: a leak would be tens of MB.
	if now := heap(); now > memory+(8<<20) {
		t.Errorf("after %d connections the heap has %d KiB, before %d KiB", many, now>>10, memory>>10)
	}
}

// idle waits until no flow is open, and the box has forgotten what it closed.
func (b *testBox) idle() {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); b.net.Stats().Open > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("%d flows are open after they have ended", b.net.Stats().Open)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC() // what was kept in pools goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlowReader promises that data waits with its sender, not with us, in both
// directions.
func TestSlowReader(t *testing.T) {
	const most = 16 << 20 // bytes: buffers of both ends, and of the host's sockets
	t.Run("box", func(t *testing.T) {
		var sent atomic.Int64
		to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) { pour(c, &sent) }))
		b := newBox(t, Config{Policy: hostAllowed()})
		b.mustDial(to)
		stalls(t, &sent, most)
	})
	t.Run("host", func(t *testing.T) {
		done := make(chan struct{})
		to := alias(serve(t, "127.0.0.1:0", func(*net.TCPConn) { <-done }))
		defer close(done)
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.mustDial(to)
		var sent atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() { pour(c, &sent) })
		stalls(t, &sent, most)
		c.SetWriteDeadline(time.Unix(1, 0))
		wg.Wait()
	})
}

// pour writes for ever.
func pour(c net.Conn, sent *atomic.Int64) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.Write(buf)
		sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// stalls waits until a sender comes to a stop, and sees how far it came.
func stalls(t *testing.T, sent *atomic.Int64, most int64) {
	t.Helper()
	before := heap()
	for last := int64(-1); ; {
		now := sent.Load()
		if now == last && now > 0 {
			break
		}
		if now > most {
			t.Fatalf("nobody reads, but %d bytes were taken", now)
		}
		last = now
		time.Sleep(200 * time.Millisecond)
	}
	if now := heap(); now > before+uint64(most) {
		t.Errorf("the heap grew by %d KiB", (now-before)>>10)
	}
}

// TestLastBytes promises that what the host has sent before it closed arrives,
// although the box reads late, and that the connection counts until then.
func TestLastBytes(t *testing.T) {
	const size = 300_000 // fits in our buffer, not in what is on the way
	to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) { c.Write(make([]byte, size)) }))
	b := newBox(t, Config{Policy: hostAllowed()})
	c := b.mustDial(to)
	c.CloseWrite()
	stack := func() int { return len(b.net.stack.RegisteredEndpoints()) }
	for b.net.Stats().Received < size {
		time.Sleep(time.Millisecond)
	}
	got, err := io.ReadAll(c)
	if err != nil || len(got) != size {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, size)
	}
	b.idle()
	c.Close()
	for range 1000 { // TIME_WAIT is a millisecond
		if stack() <= 2 { // the resolver's
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d endpoints are left, want the resolver's two", stack())
}

// TestBuffersAreBounded promises what limits.go says of all buffers together.
func TestBuffersAreBounded(t *testing.T) {
	var all int64
	for n := 1; n <= maxTCP; n++ {
		all += bufferSize(n)
	}
	if all > 192<<20 {
		t.Errorf("buffers of %d connections take %d MiB a direction, want at most 192", maxTCP, all>>20)
	}
	if bufferSize(maxTCP+1) < tcp.MinBufferSize {
		t.Error("a buffer is smaller than the stack takes")
	}
}

// TestTooManyConnections promises a refusal, not silence, at the bound.
func TestTooManyConnections(t *testing.T) {
	to := alias(serve(t, "127.0.0.1:0", repeat))
	b := newBox(t, Config{Policy: hostAllowed()})
	b.net.mu.Lock()
	b.net.open[classTCP].most = 2
	b.net.mu.Unlock()
	one := b.mustDial(to)
	b.mustDial(to)
	if _, err := b.dial(to); !isRefused(err) {
		t.Errorf("third connection of two: got %v, want a refusal", err)
	}
	one.Close()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, err := b.dial(to); err == nil {
			return
		} else if !isRefused(err) || time.Now().After(deadline) {
			t.Fatal(errors.Join(errors.New("after one of two has ended"), err))
		}
	}
}
