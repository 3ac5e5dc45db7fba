package agent

import (
	"errors"
	"io"
	"sync"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// start runs a command and follows it on this stream.
func (s *stream) start(c *guest.Command) error {
	o := &guest.AttachOptions{Stdin: c.Stdin}
	var f *follower
	// A follower that came later could miss what was evicted before.
	_, err := s.agent.start(c, func(e *execution) { f = s.newFollower(e, o) })
	if err != nil {
		return err
	}
	return f.follow(o)
}

func (s *stream) attach(r *guest.Request) error {
	e, err := s.agent.table.get(r.ID)
	if err != nil {
		return err
	}
	return s.newFollower(e, r.Attach).follow(r.Attach)
}

// follower sends the output of one execution to one stream.
type follower struct {
	s    *stream
	e    *execution
	out  *ringReader
	errs *ringReader // nil with a terminal

	once sync.Once
	hung chan struct{} // closed when the host is gone
}

// newFollower takes its place in the output of e. Its follow must be called.
func (s *stream) newFollower(e *execution, o *guest.AttachOptions) *follower {
	f := &follower{s: s, e: e, out: e.out.ring.reader(o.StdoutFrom, o.Lossy), hung: make(chan struct{})}
	if e.err != nil {
		f.errs = e.err.ring.reader(o.StderrFrom, o.Lossy)
	}
	return f
}

// follow sends output until the command has ended, then its exit.
func (f *follower) follow(o *guest.AttachOptions) error {
	s := f.s
	defer f.hangUp()
	s.agent.table.follow()
	defer s.agent.table.leave()
	if err := s.reply(f.e.snapshot()); err != nil {
		return err
	}
	var in sync.WaitGroup
	in.Go(func() { f.input(o.Stdin) })
	err := f.output()
	if err != nil && !errors.Is(err, errGone) {
		s.refuse(err)
	}
	s.f.Close() // ends input; the host has what it is owed
	in.Wait()
	return errGone
}

// hangUp ends both readers, so that a command never waits for a host that is
// gone.
func (f *follower) hangUp() {
	f.once.Do(func() { close(f.hung) })
	f.out.stop()
	if f.errs != nil {
		f.errs.stop()
	}
}

// output sends both outputs side by side, so that neither waits for the other,
// and the exit after them.
func (f *follower) output() error {
	var wg sync.WaitGroup
	if f.errs != nil {
		wg.Go(func() { f.send(f.errs, wire.Stderr) })
	}
	f.send(f.out, wire.Stdout)
	wg.Wait()
	select {
	case <-f.hung:
		return errGone
	case <-f.e.done:
	}
	if f.out.lost() || (f.errs != nil && f.errs.lost()) {
		return fail(guest.KindNoExecution, "the output of execution %s is no longer kept", f.e.info.ID)
	}
	return hostError(f.s.wire.WriteJSON(wire.Exit, f.e.snapshot().Exit))
}

// send copies a ring to the stream until its end.
func (f *follower) send(r *ringReader, t wire.Type) {
	for {
		more, err := f.sendOne(r, t)
		if err != nil {
			f.hangUp()
			return
		}
		if !more {
			return
		}
	}
}

func (f *follower) sendOne(r *ringReader, t wire.Type) (more bool, err error) {
	r.wait() // before a buffer is taken
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	n, gap, more := r.next((*buf)[wire.HeaderLen:])
	switch {
	case n > 0:
		return true, f.s.wire.WriteReserved(t, (*buf)[:wire.HeaderLen+n])
	case more:
		gap.Stderr = t == wire.Stderr
		return true, f.s.wire.WriteJSON(wire.Gap, gap)
	}
	return false, nil
}

// input passes standard input on until the host hangs up.
func (f *follower) input(wanted bool) {
	defer f.hangUp()
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		t, _, err := f.s.wire.Next()
		if err != nil || !wanted {
			return
		}
		switch t {
		case wire.Stdin:
			if err := f.pass(*buf); err != nil {
				return
			}
		case wire.StdinEnd:
			f.e.closeStdin()
		default:
			return
		}
	}
}

// pass moves the current frame to the command.
func (f *follower) pass(buf []byte) error {
	for {
		n, err := f.s.wire.Read(buf)
		f.e.writeStdin(buf[:n])
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
