package vnet

import (
	"io"
	"net"
	"sync"
)

// conn is one side of a TCP flow. Close after CloseWrite is orderly; Reset at any
// time ends both directions at once, which the peer sees as a reset, and makes
// all other calls return.
type conn interface {
	net.Conn
	CloseWrite() error
	Reset()
}

// relay copies both ways until both sides have ended, and closes them. What
// happens to one side happens to the other: the end of a direction is passed on
// while the other goes on, and an error is passed on as a reset.
func relay(a, b conn) {
	var wg sync.WaitGroup
	wg.Go(func() { carry(a, b) }) // waited for below
	carry(b, a)
	wg.Wait()
	a.Close()
	b.Close()
}

// carry copies one way. A sender waits while the receiver does not take what
// there is: no more than one buffer is held.
func carry(dst, src conn) {
	if _, err := io.Copy(dst, src); err == nil && dst.CloseWrite() == nil {
		return
	}
	dst.Reset()
	src.Reset()
}
