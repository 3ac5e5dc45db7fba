package vnet

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/egress"
)

// TestHalfClosedFlowEnds promises that a flow whose box has said all ends like any
// other, although its server says nothing: with the network, and when the policy
// no longer allows it. What is read from a server is no sign of life of a box.
func TestHalfClosedFlowEnds(t *testing.T) {
	for name, end := range map[string]func(*Network) error{
		"with the network": (*Network).Close,
		"with the policy":  func(n *Network) error { return n.SetPolicy(egress.Policy{}) },
	} {
		t.Run(name, func(t *testing.T) {
			heard, got := make(chan string, 1), make(chan error, 1)
			to := alias(serve(t, "127.0.0.1:0", func(c *net.TCPConn) {
				all, _ := io.ReadAll(c)
				heard <- string(all)
				got <- awaitReset(c)
			}))
			b := newBox(t, Config{Policy: hostAllowed()})
			c := b.mustDial(to)
			fmt.Fprint(c, "all")
			c.CloseWrite()
			if s := <-heard; s != "all" {
				t.Fatalf("the server heard %q", s)
			}
			if err := end(b.net); err != nil {
				t.Fatal(err)
			}
			if err := <-got; !hasReset(err) {
				t.Errorf("the server: got %v, want a reset", err)
			}
			b.idle()
		})
	}
}

// awaitReset waits until the other side has reset a connection that has nothing
// more to be read, and returns what a write says then.
func awaitReset(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if err := raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd)}} // an error is always told
		_, err := unix.Poll(p, 0)
		return err == nil && p[0].Revents&unix.POLLERR != 0
	}); err != nil {
		return err
	}
	_, err = c.Write([]byte("x"))
	return err
}
