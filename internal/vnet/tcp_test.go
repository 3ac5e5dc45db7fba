package vnet

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// TestTCPReachesWhatIsAllowed promises both families, and an audit log of it.
func TestTCPReachesWhatIsAllowed(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(loopback, func(t *testing.T) {
			log := newEventLog()
			to := alias(serve(t, loopback, repeat))
			b := newBox(t, Config{Policy: hostAllowed(), Record: log.record})
			c := b.mustDial(to)
			want := bytes.Repeat([]byte("0123456789"), 30_000)
			go func() {
				c.Write(want)
				c.CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("echo of %d bytes: got %d bytes, %v", len(want), len(got), err)
			}
			c.Close()
			e := log.await(t, "the end of the flow", func(e egress.Event) bool { return e.Closed })
			if e.Sent != int64(len(want)) || e.Received != int64(len(want)) || e.Addr != to.String() ||
				e.Action != egress.Allow || e.Rule != "host.boxlite.internal" || e.Direction != egress.Out {
				t.Errorf("end of the flow: got %+v, want %d bytes each way to %s", e, len(want), to)
			}
			if s := b.net.Stats(); s.Sent != uint64(len(want)) || s.Received != uint64(len(want)) || s.Connections != 1 || s.Refused != 0 {
				t.Errorf("stats: got %+v", s)
			}
		})
	}
}

// TestTCPRefusal promises that a refused connection fails at once and is recorded
// with the reason.
func TestTCPRefusal(t *testing.T) {
	log := newEventLog()
	port := serve(t, "127.0.0.1:0", repeat).(*net.TCPAddr).AddrPort().Port()
	b := newBox(t, Config{Record: log.record})
	for addr, reason := range map[string]egress.Reason{
		"10.1.2.3":          egress.ReasonPrivate,
		"169.254.169.254":   egress.ReasonMetadata,
		"192.168.127.254":   egress.ReasonAlias,
		"192.168.127.1":     egress.ReasonPrivate,
		"192.168.127.77":    egress.ReasonPrivate,
		"fd00::1":           egress.ReasonPrivate,
		"fd42:b0c5:17e::fe": egress.ReasonAlias,
		"64:ff9b::7f00:1":   egress.ReasonLoopback,
		"2002:7f00:1::":     egress.ReasonLoopback,
	} {
		to := netip.AddrPortFrom(netip.MustParseAddr(addr), port)
		if _, err := b.dial(to); !isRefused(err) {
			t.Errorf("dial %s: got %v, want a refusal", to, err)
		}
		e := log.await(t, "refusal of "+to.String(), func(e egress.Event) bool { return e.Addr == to.String() })
		if e.Action != egress.Deny || e.Reason != reason || e.Kind != egress.KindFlow {
			t.Errorf("%s: got %+v, want reason %q", to, e, reason)
		}
	}
}

// TestTCPUpstreamRefusal promises that the box sees the refusal of a host that is
// there but does not listen.
func TestTCPUpstreamRefusal(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := alias(l.Addr())
	l.Close()
	b := newBox(t, Config{Policy: hostAllowed()})
	if _, err := b.dial(to); !isRefused(err) {
		t.Errorf("dial a port that nobody listens on: got %v, want a refusal", err)
	}
}

// TestTCPHalfClose promises that each direction ends by itself.
func TestTCPHalfClose(t *testing.T) {
	t.Run("box first", func(t *testing.T) {
		to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
			got, _ := io.ReadAll(c)
			fmt.Fprintf(c, "heard %s", got)
		}))
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.mustDial(to)
		fmt.Fprint(c, "all")
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "heard all" || err != nil {
			t.Errorf("answer after the box has ended: got %q, %v", got, err)
		}
	})
	t.Run("host first", func(t *testing.T) {
		heard := make(chan string, 1)
		to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
			fmt.Fprint(c, "bye")
			c.CloseWrite()
			got, _ := io.ReadAll(c)
			heard <- string(got)
		}))
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.mustDial(to)
		if got, err := io.ReadAll(c); string(got) != "bye" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		fmt.Fprint(c, "still here")
		c.Close()
		if got := <-heard; got != "still here" {
			t.Errorf("after the host has ended it heard %q", got)
		}
	})
}

// TestTCPReset promises that a reset is not taken for an end.
func TestTCPReset(t *testing.T) {
	t.Run("by the host", func(t *testing.T) {
		to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
			io.ReadFull(c, make([]byte, 1))
			c.SetLinger(0)
		}))
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.mustDial(to)
		fmt.Fprint(c, "x")
		if _, err := io.ReadAll(c); !isReset(err) {
			t.Errorf("read: got %v, want a reset", err)
		}
	})
	t.Run("by the box", func(t *testing.T) {
		got := make(chan error, 1)
		to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
			fmt.Fprint(c, "unread, so that close is a reset")
			_, err := io.ReadAll(c)
			got <- err
		}))
		b := newBox(t, Config{Policy: hostAllowed()})
		c := b.mustDial(to)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := <-got; !isReset(err) {
			t.Errorf("read: got %v, want a reset", err)
		}
	})
}

// TestPolicyChange promises that a new policy is about open flows too.
func TestPolicyChange(t *testing.T) {
	log := newEventLog()
	to, other := alias(serve(t, "127.0.0.1:0", repeat)), alias(serve(t, "127.0.0.1:0", repeat))
	b := newBox(t, Config{Policy: hostAllowed(), Record: log.record})
	gone, stays := b.mustDial(to), b.mustDial(other)
	p := egress.Policy{Allow: []egress.Rule{egress.MustParse(fmt.Sprintf("host.boxlite.internal:%d", other.Port()))}}
	if err := b.net.SetPolicy(p); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(gone); !isReset(err) {
		t.Errorf("flow that is no longer allowed: got %v, want a reset", err)
	}
	fmt.Fprint(stays, "ok")
	if _, err := io.ReadFull(stays, make([]byte, 2)); err != nil {
		t.Errorf("flow that is still allowed: %v", err)
	}
	if _, err := b.dial(to); !isRefused(err) {
		t.Errorf("new flow: got %v, want a refusal", err)
	}
	log.await(t, "the change", func(e egress.Event) bool { return e.Kind == egress.KindPolicy })
	log.await(t, "the refusal of the open flow", func(e egress.Event) bool {
		return e.Addr == to.String() && e.Reason == egress.ReasonAlias && !e.Closed
	})
	if err := b.net.SetPolicy(egress.Policy{Mode: egress.Disabled}); err == nil {
		t.Error("SetPolicy(disabled): got nil, want an error")
	}
	if err := b.net.SetPolicy(hostAllowed()); err != nil {
		t.Fatal(err)
	}
	b.mustDial(to)
}

// TestCloseResets promises that whom a box talked to does not take the end of the
// box for the end of what it said.
func TestCloseResets(t *testing.T) {
	got := make(chan error, 1)
	to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
		_, err := io.ReadAll(c)
		got <- err
	}))
	b := newBox(t, Config{Policy: hostAllowed()})
	c := b.mustDial(to)
	fmt.Fprint(c, "x")
	if err := b.net.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; !isReset(err) {
		t.Errorf("host: got %v, want a reset", err)
	}
}
