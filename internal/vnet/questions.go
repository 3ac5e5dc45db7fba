package vnet

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dnsPort is where the gateway answers questions.
const dnsPort = 53

// listenDNS opens the port of our resolver at an address of the gateway.
func (n *Network) listenDNS(at netip.Addr) (asked, error) {
	full := tcpip.FullAddress{NIC: nic, Addr: addressOf(at), Port: dnsPort}
	c, err := gonet.DialUDP(n.stack, &full, nil, protocolOf(at))
	if err != nil {
		return asked{}, fmt.Errorf("resolver of the box at %s: %w", at, err)
	}
	return asked{c}, nil
}

// asked is a port of our resolver.
type asked struct{ *gonet.UDPConn }

// serve answers questions until c is closed. Those that are too many at once
// are dropped, as a busy resolver does, and asked again.
func (c asked) serve(n *Network) {
	room := make(chan struct{}, maxQueries)
	buf := make([]byte, maxQuery)
	for {
		size, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		select {
		case room <- struct{}{}:
		default:
			continue
		}
		query := append([]byte(nil), buf[:size]...)
		n.queries.Add(1)
		n.wg.Go(func() { // Close waits for it, after the reader
			defer func() { <-room }()
			if reply := n.resolver.answer(n.ctx, query, true); reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
		})
	}
}

// acceptDNS serves questions to our resolver over TCP. It is no flow: each
// question is judged by itself.
func (n *Network) acceptDNS(r *tcp.ForwarderRequest) {
	if !n.enter() {
		r.Complete(true)
		return
	}
	defer n.wg.Done()
	if n.dnsConns.Add(1) > maxQueries {
		n.dnsConns.Add(-1)
		r.Complete(true)
		return
	}
	defer n.dnsConns.Add(-1)
	queue := new(waiter.Queue)
	ep, err := r.CreateEndpoint(queue)
	r.Complete(err != nil)
	if err != nil {
		return
	}
	c := newBoxConn(ep, queue, &n.traffic, bufferSize(maxTCP))
	defer c.Close()
	defer context.AfterFunc(n.ctx, c.Reset)()
	for n.answerDNS(c) == nil {
	}
}

// answerDNS answers one question of a stream, in which each message has its
// length before it.
func (n *Network) answerDNS(c net.Conn) error {
	c.SetDeadline(time.Now().Add(dnsIdle))
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, query); err != nil {
		return err
	}
	n.queries.Add(1)
	reply := n.resolver.answer(n.ctx, query, false)
	if reply == nil || len(reply) > 1<<16-1 {
		return io.ErrUnexpectedEOF
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	return err
}
