package shim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// startMain runs the main command and follows it to its end, which ends the
// box.
func (o *owner) startMain(ctx context.Context) error {
	cmd := *o.spec.Main
	cmd.ID = MainID
	p, err := o.guest.Start(ctx, cmd)
	if e, ok := errors.AsType[*guest.Error](err); ok {
		return &Fault{Kind: KindCommand, Message: e.Message, Command: e}
	}
	if err != nil {
		return err
	}
	return o.follow(p, true)
}

// followStarted follows a main command that the starter runs itself. The
// starter ends the box, so that it can read all output first.
func (o *owner) followStarted(ctx context.Context) error {
	p, err := o.guest.Attach(ctx, MainID, guest.AttachOptions{})
	if err != nil {
		return err
	}
	return o.follow(p, false)
}

// follow logs the output of the main command until it ends.
func (o *owner) follow(p *guest.Process, endBox bool) error {
	o.mu.Lock()
	again := o.followed
	o.followed = true
	o.mu.Unlock()
	if again {
		return p.Close()
	}
	log, err := newLogFile(LogPath(o.spec.Dir), maxLog)
	if err != nil {
		return errors.Join(fmt.Errorf("log of the main command: %w", err), p.Close())
	}
	// finish waits for it: stopping the machine ends the stream.
	o.follows.Go(func() {
		defer log.Close()
		exit, err := p.Copy(log, log)
		if err == nil {
			o.update(func(r *Run) { r.Exit = &exit })
		}
		if endBox {
			o.end(o.mainEnded(err))
		}
	})
	return nil
}

// mainEnded says how the box is to end with its main command. A stream that
// broke means that the machine has died or is dying, which then is the reason.
func (o *owner) mainEnded(broke error) ending {
	if broke == nil {
		return ending{grace: quickGrace, state: Stopped}
	}
	select {
	case <-o.machine.Done():
		return died(o.machine.Err())
	case <-time.After(forceTimeout):
		return ending{state: Failed, reason: fmt.Sprintf("its main command was lost: %v", broke)}
	}
}

// maxLog is the size at which a log is moved aside. Two files are kept, so the
// output of a box takes at most 20 MiB of the host.
const maxLog = 10 << 20

// logFile is a file that is moved to name+".1" when it is full. It is not safe
// for concurrent use.
type logFile struct {
	path string
	max  int64
	f    *os.File
	size int64
}

// newLogFile begins a log anew.
func newLogFile(path string, size int64) (*logFile, error) {
	l := &logFile{path: path, max: size}
	_ = os.Remove(path + ".1") // of the run before
	return l, l.open()
}

// appendLogFile goes on with the log of the run before, in a line of its own.
func appendLogFile(path string, size int64) (*logFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	l := &logFile{path: path, max: size, f: f}
	if l.size, err = f.Seek(0, io.SeekEnd); err != nil || l.size == 0 {
		return l, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], l.size-1); err == nil && last[0] != '\n' {
		_, _ = l.Write([]byte("\n")) // a crash cut the last line
	}
	return l, nil
}

func (l *logFile) open() (err error) {
	l.size = 0
	l.f, err = os.OpenFile(l.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	return err
}

// Write never fails: a box is not stopped because its log has no space.
func (l *logFile) Write(p []byte) (int, error) {
	if l.size += int64(len(p)); l.size > l.max && l.f != nil {
		l.f.Close()
		_ = os.Rename(l.path, l.path+".1")
		if err := l.open(); err != nil {
			l.f = nil
		}
		l.size = int64(len(p))
	}
	if l.f != nil {
		_, _ = l.f.Write(p)
	}
	return len(p), nil
}

func (l *logFile) Close() {
	if l.f != nil {
		l.f.Close()
		l.f = nil
	}
}
