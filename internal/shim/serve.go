package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"golang.org/x/sys/unix"
)

const (
	// maxCalls bounds the connections served at once; the next ones wait in the
	// kernel's queue.
	maxCalls = 512
	// callTimeout bounds what is asked of the machine in one call.
	callTimeout = time.Minute
)

// accept serves connections until the listener is closed.
func (o *owner) accept() {
	slots := make(chan struct{}, maxCalls)
	for {
		slots <- struct{}{}
		conn, err := o.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors: the next caller may be luckier
			<-slots
			time.Sleep(10 * time.Millisecond)
			continue
		}
		o.calls.Go(func() { // finish waits for it
			defer func() { <-slots }()
			o.answer(conn)
		})
	}
}

// answer serves one connection: one request, one reply.
func (o *owner) answer(conn *net.UnixConn) {
	defer conn.Close()
	if err := trusted(conn); err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(callTimeout))
	b, f, err := receive(conn)
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return
	}
	var req request
	if err := json.Unmarshal(b, &req); err != nil {
		return
	}
	r, stream, err := o.do(req, f)
	if err != nil {
		r.Fault = faultOf(err)
	}
	if b, err = json.Marshal(r); err != nil {
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(callTimeout))
	if stream == nil {
		_, _ = conn.Write(b)
		return
	}
	defer stream.Close()
	_ = sendWith(conn, b, stream)
}

// trusted checks that the peer is our user, or root. The directory's mode says
// so already; this holds also when somebody loosened it.
func trusted(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d may not talk to this box", cred.Uid)
	}
	return nil
}

// sendWith sends b with the descriptor of stream.
func sendWith(conn *net.UnixConn, b []byte, stream io.Closer) error {
	sc, ok := stream.(syscall.Conn)
	if !ok {
		return fmt.Errorf("stream of type %T has no descriptor", stream)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return err
	}
	var sendErr error
	if err := raw.Control(func(fd uintptr) {
		_, _, sendErr = conn.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	}); err != nil {
		return err
	}
	return sendErr
}

// do carries out one request.
func (o *owner) do(req request, with *os.File) (r reply, stream io.Closer, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	switch req.Op {
	case opDial:
		o.countDial()
		stream, err = o.dial(ctx)
	case opStatus:
		run := o.state()
		run.Unsaved = o.unsaved()
		r.Run = &run
	case opStats:
		r.Stats, err = o.stats(ctx)
		if o.net != nil {
			r.Net = o.net.stats()
		}
	case opConnect:
		stream, err = o.connect(ctx, req)
	case opPolicy:
		err = o.setPolicy(with)
	case opSync:
		_, err = o.save()
	case opFollow:
		err = o.followStarted(ctx)
	case opStop:
		o.end(ending{grace: req.Grace, state: Stopped, discard: req.Discard})
		<-o.stopped
		err = o.unkept
	default:
		err = fmt.Errorf("unknown request %q", req.Op)
	}
	return r, stream, err
}

// dial opens a stream to the agent; nil on an error.
func (o *owner) dial(ctx context.Context) (io.Closer, error) {
	conn, err := o.machine.Dial(ctx)
	switch {
	case errors.Is(err, engine.ErrEnded):
		return nil, &Fault{Kind: KindStopping, Message: "the box is ending"}
	case err != nil:
		return nil, err
	}
	return conn, nil
}

func (o *owner) stats(ctx context.Context) (*engine.Stats, error) {
	s, ok := o.machine.(engine.Statser)
	if !ok {
		return nil, &Fault{Kind: KindUnsupported, Message: "engine " + o.eng.Name() + " has no statistics"}
	}
	st, err := s.Stats(ctx)
	return &st, err
}
