package agent

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// greetTimeout is how long a stream may take to say what it is for.
const greetTimeout = 30 * time.Second

// Run serves until the host is gone: until the end of the control socket. It
// sends one message there when streams are served.
//
// The control socket is a SOCK_SEQPACKET of which each message carries one
// byte and, as SCM_RIGHTS, one end of a SOCK_STREAM socketpair.
func Run(cfg Config) error {
	syscall.Umask(0o022) // what commands and copies expect, whoever started us
	keepDescriptors(cfg.Control)
	a, err := newAgent(cfg)
	if err != nil {
		return err
	}
	go a.reaper.run() // for as long as the process
	if a.root == "" {
		if err := keepCapabilities(a.confined); err != nil {
			return err
		}
		prepareBox()
	}
	if err := unix.Sendto(cfg.Control, []byte{1}, unix.MSG_NOSIGNAL, nil); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	go func() { // short; the host is on its way to the first command meanwhile
		defer close(a.named)
		if a.root == "" {
			nameBox()
			_ = nameServers(cfg.Resolvers) // a full disk keeps the file of the start before
		}
	}()
	err = a.accept(cfg.Control)
	close(a.stop)
	if a.root != "" { // PID 1 takes all with it; here nobody else would
		a.table.close()
		a.killAll()
	}
	return err
}

// keepDescriptors keeps the control socket, and whatever else the agent was
// started with, from commands: who holds the socket can pose as the agent.
func keepDescriptors(control int) {
	syscall.CloseOnExec(control)
	// A kernel before 5.11 refuses: then only what our starter leaked stays.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
}

// accept serves the streams that the host sends, until it hangs up.
func (a *Agent) accept(control int) error {
	buf := make([]byte, 1)
	oob := make([]byte, unix.CmsgSpace(4*4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(control, buf, oob, unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("control socket: %w", err)
		case n == 0 && oobn == 0:
			return nil
		}
		for _, fd := range rights(oob[:oobn]) {
			a.admit(fd)
		}
	}
}

// rights is the descriptors in control messages.
func rights(oob []byte) []int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var all []int
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

// admit serves one stream in a goroutine of its own, which ends with it.
func (a *Agent) admit(fd int) {
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return
	}
	s := &stream{agent: a, f: os.NewFile(uintptr(fd), "stream")}
	s.wire = wire.NewConn(s.f)
	select {
	case a.streams <- struct{}{}:
		go func() {
			defer func() { <-a.streams }()
			s.serve()
		}()
	default:
		s.f.Close()
	}
}

// stream is one request being served.
type stream struct {
	agent *Agent
	f     *os.File
	wire  *wire.Conn
}

func (s *stream) serve() {
	defer s.f.Close()
	req, err := s.greet()
	if err == nil {
		err = s.handle(req)
	}
	if err != nil {
		s.refuse(err)
	}
}

// refuse tells the host why. It may have hung up already.
func (s *stream) refuse(err error) {
	if errors.Is(err, errGone) {
		return
	}
	s.f.SetWriteDeadline(time.Now().Add(greetTimeout))
	_ = s.wire.WriteJSON(wire.Error, remote(err))
}

// errGone is that the host hung up: there is nobody to tell.
var errGone = errors.New("the host hung up")

// greet reads hello and request.
func (s *stream) greet() (*guest.Request, error) {
	s.f.SetDeadline(time.Now().Add(greetTimeout))
	defer s.f.SetDeadline(time.Time{})
	if err := s.wire.WriteJSON(wire.Hello, s.agent.hello); err != nil {
		return nil, errGone
	}
	var hello guest.Hello
	if err := s.read(wire.Hello, &hello); err != nil {
		return nil, err
	}
	if hello.Proto != guest.Version {
		return nil, fail(guest.KindInvalid, "the host speaks protocol %d, the agent in the box %d", hello.Proto, guest.Version)
	}
	req := new(guest.Request)
	if err := s.read(wire.Request, req); err != nil {
		return nil, err
	}
	return req, req.Validate()
}

func (s *stream) read(want wire.Type, v any) error {
	t, _, err := s.wire.Next()
	if err != nil {
		return hostError(err)
	}
	if t != want {
		return fail(guest.KindInvalid, "frame of type %d, want %d", t, want)
	}
	return hostError(s.wire.JSON(v))
}

// hostError makes sense of what a stream ended with.
func hostError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, wire.ErrFrame):
		return fail(guest.KindInvalid, "%v", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, os.ErrClosed):
		return errGone
	}
	return fmt.Errorf("%w: %w", errGone, err)
}

// handle serves the request. What it returns is told to the host.
func (s *stream) handle(r *guest.Request) error {
	switch r.Op {
	case guest.OpPing:
		return s.reply(struct{}{})
	case guest.OpStart:
		return s.start(r.Command)
	case guest.OpAttach:
		return s.attach(r)
	case guest.OpExecutions:
		return s.executions()
	case guest.OpExecution, guest.OpSignal, guest.OpKill, guest.OpResize:
		return s.control(r)
	case guest.OpShutdown:
		s.agent.shutdown(r.Grace)
		return s.reply(struct{}{})
	case guest.OpTrust:
		return s.done(s.agent.trust(r.Trust))
	}
	return s.files(r)
}

func (s *stream) reply(v any) error { return hostError(s.wire.WriteJSON(wire.Reply, v)) }

func (s *stream) control(r *guest.Request) error {
	e, err := s.agent.table.get(r.ID)
	if err != nil {
		return err
	}
	switch r.Op {
	case guest.OpSignal:
		err = e.signal(syscall.Signal(r.Signal))
	case guest.OpKill:
		err = e.kill()
	case guest.OpResize:
		err = e.resize(*r.Size)
	}
	if err != nil {
		return err
	}
	return s.reply(e.snapshot())
}

func (s *stream) executions() error {
	l := lister[guest.Execution]{s: s}
	for _, e := range s.agent.table.all() {
		if err := l.add(e.snapshot()); err != nil {
			return err
		}
	}
	return l.end()
}

// lister sends a list as data frames, each a JSON array of a few entries.
type lister[T any] struct {
	s    *stream
	part []T
}

// listPart is how many entries go in one frame. The largest entry, a name of
// 255 bytes with a link of 4095, or an execution's arguments, stays below 30 KB
// in JSON, so a part stays far below the largest frame.
const listPart = 32

func (l *lister[T]) add(v T) error {
	l.part = append(l.part, v)
	if len(l.part) < listPart {
		return nil
	}
	return l.flush()
}

func (l *lister[T]) flush() error {
	if len(l.part) == 0 {
		return nil
	}
	err := l.s.wire.WriteJSON(wire.Data, l.part)
	l.part = l.part[:0]
	return hostError(err)
}

func (l *lister[T]) end() error {
	if err := l.flush(); err != nil {
		return err
	}
	return hostError(l.s.wire.Write(wire.End, nil))
}
