package vnet

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/rawfile"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// maxFrame is the largest frame of the box that is taken. It fits in the
	// largest chunk of memory that package buffer pools.
	maxFrame = header.EthernetMinimumSize + MTU

	// copyFrame is the size in bytes up to which a frame is copied into a chunk
	// of its own size. A larger one keeps the chunk of 64 KiB it was read into,
	// so what waits to be read takes at most twice its size, however the box
	// cuts it up.
	copyFrame = 32 << 10

	// linkBuffer is the size in bytes of the socket's buffers: so many frames
	// can be on the way. The host may allow less, net.core.wmem_max; at its
	// usual 208 KiB, three large frames, the speed is much the same.
	linkBuffer = 4 << 20

	// linkPatience is how long we wait for a box that takes no frames, before
	// frames are dropped as on any network. A machine that is not stopped
	// takes them in far less.
	linkPatience = 200 * time.Millisecond
)

// link is the wire to the box, a stack.LinkEndpoint. Frames that come in are
// judged by their headers before the stack sees them: see frame.go. There is
// nothing to resolve on it, the addresses of both ends being known.
type link struct {
	file  *os.File
	raw   syscall.RawConn
	fd    int
	spoof func(frame []byte) // told of a packet that is not from the box's address

	wg    sync.WaitGroup // the reader
	to    atomic.Pointer[stack.NetworkDispatcher]
	stuck atomic.Bool // the box took no frame for linkPatience: do not wait again

	mu     sync.RWMutex // held while fd is used
	closed bool
}

// newLink makes a link and returns the end that is for the box.
func newLink() (l *link, box *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("link of the box: %w", err)
	}
	for _, fd := range fds {
		growBuffers(fd)
	}
	l = &link{file: os.NewFile(uintptr(fds[0]), "link"), fd: fds[0]}
	box = os.NewFile(uintptr(fds[1]), "link of the box")
	if l.raw, err = l.file.SyscallConn(); err != nil {
		return nil, nil, errors.Join(err, l.file.Close(), box.Close())
	}
	return l, box, nil
}

// growBuffers asks for more than the host allows if we may, else for as much as
// it allows. Less is slower and nothing else, so errors do not matter.
func growBuffers(fd int) {
	for _, o := range [][2]int{{unix.SO_SNDBUFFORCE, unix.SO_SNDBUF}, {unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[0], linkBuffer) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o[1], linkBuffer)
		}
	}
}

// read hands the frames of the box to the stack until the link is closed. A
// buffer is taken only when there is a frame, and no thread waits for one: a quiet
// link costs nothing.
func (l *link) read() {
	for {
		var frame *buffer.View
		err := l.raw.Read(func(fd uintptr) bool {
			frame = receive(int(fd))
			return frame != nil
		})
		if err != nil {
			return
		}
		l.deliver(frame)
	}
}

// receive reads one frame; nil means that there is none. A frame that is too
// long is cut off, which its packet's own length then shows.
func receive(fd int) *buffer.View {
	v := buffer.NewViewSize(maxFrame)
	n, _, err := unix.Recvfrom(fd, v.AsSlice(), unix.MSG_DONTWAIT)
	for err == unix.EINTR || err == unix.ECONNRESET || err == unix.ECONNREFUSED { // said once each time that the box's end is let go
		n, _, err = unix.Recvfrom(fd, v.AsSlice(), unix.MSG_DONTWAIT)
	}
	if err != nil {
		v.Release()
		return nil
	}
	if n > copyFrame {
		v.CapLength(n)
		return v
	}
	small := buffer.NewViewWithData(v.AsSlice()[:n])
	v.Release()
	return small
}

// deliver judges a frame and passes it on. It owns v.
func (l *link) deliver(v *buffer.View) {
	frame := v.AsSlice()
	to := l.to.Load()
	switch what := classify(frame); {
	case to == nil:
	case what == frameAsks:
		l.send([][]byte{answerNeighbor(frame)})
	case what == frameSpoofed:
		l.spoof(frame)
	case what == framePacket:
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
		defer pkt.DecRef()
		if eth, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize); ok {
			(*to).DeliverNetworkPacket(header.Ethernet(eth).Type(), pkt)
		}
		return
	}
	v.Release()
}

// WritePackets implements stack.LinkWriter. It waits for a box that is slow to
// take frames: what must not be lost is not sent faster than it is taken.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	var room [8][]byte // more than the views of nearly all packets
	for i, pkt := range pkts.AsSlice() {
		parts := room[:0]
		views, skip := pkt.AsViewList()
		for v := views.Front(); v != nil; v = v.Next() {
			if b := v.AsSlice(); skip < len(b) {
				parts = append(parts, b[skip:])
				skip = 0
			} else {
				skip -= len(b)
			}
		}
		if !l.send(parts) {
			return i, &tcpip.ErrNoBufferSpace{}
		}
	}
	return pkts.Len(), nil
}

// send writes one frame, and tells whether the box got it.
func (l *link) send(parts [][]byte) bool {
	iovecs := make([]unix.Iovec, 0, 8)
	for _, p := range parts {
		iovecs = rawfile.AppendIovecFromBytes(iovecs, p, rawfile.MaxIovs)
	}
	errno := l.try(iovecs)
	if errno == unix.EAGAIN && !l.stuck.Load() {
		errno = l.wait(iovecs)
	}
	if errno == 0 {
		l.stuck.Store(false)
	}
	return errno == 0
}

// try writes a frame if it can be done at once.
func (l *link) try(iovecs []unix.Iovec) unix.Errno {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return unix.EBADF
	}
	return rawfile.NonBlockingWriteIovec(l.fd, iovecs)
}

// wait writes a frame as soon as there is room for it.
func (l *link) wait(iovecs []unix.Iovec) unix.Errno {
	l.file.SetWriteDeadline(time.Now().Add(linkPatience)) // any other who waits has longer, too
	errno := unix.EAGAIN
	err := l.raw.Write(func(fd uintptr) bool {
		errno = rawfile.NonBlockingWriteIovec(int(fd), iovecs)
		return errno != unix.EAGAIN
	})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.stuck.Store(true)
	}
	return errno
}

// Attach implements stack.LinkEndpoint. Frames come after start. With nil it is
// the end of the link.
func (l *link) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		l.Close()
		return
	}
	l.to.Store(&d)
}

// start reads frames, now that the stack knows what to do with them.
func (l *link) start() { l.wg.Go(l.read) } // Wait waits for it

// Close implements stack.LinkEndpoint. It can be called more than once.
func (l *link) Close() {
	l.mu.Lock()
	was := l.closed
	l.closed = true
	l.mu.Unlock()
	if !was {
		l.file.Close()
	}
}

// Wait implements stack.LinkEndpoint.
func (l *link) Wait() { l.wg.Wait() }

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { return l.to.Load() != nil }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return MTU }

// MaxHeaderLength implements stack.LinkEndpoint.
func (l *link) MaxHeaderLength() uint16 { return header.EthernetMinimumSize }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return tcpip.LinkAddress(gatewayMAC) }

// Capabilities implements stack.LinkEndpoint. Both ends are memory of one
// machine, so no sum is made or looked at.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityTXChecksumOffload | stack.CapabilityRXChecksumOffload
}

// ARPHardwareType implements stack.LinkEndpoint.
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(gatewayMAC),
		DstAddr: tcpip.LinkAddress(BoxMAC),
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader implements stack.LinkEndpoint.
func (l *link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	return ok
}

// SetMTU implements stack.LinkEndpoint; the MTU is fixed.
func (l *link) SetMTU(uint32) {}

// SetLinkAddress implements stack.LinkEndpoint; the address is fixed.
func (l *link) SetLinkAddress(tcpip.LinkAddress) {}

// SetOnCloseAction implements stack.LinkEndpoint; there is no device to destroy.
func (l *link) SetOnCloseAction(func()) {}
