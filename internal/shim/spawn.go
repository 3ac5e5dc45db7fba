package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/internal/undo"
	"golang.org/x/sys/unix"
)

// Descriptors a shim is started with.
const (
	specFD = 3 + iota
	statusFD
	lifeFD
)

// Process is a shim that this process started. Close it to let go of an
// attached box, which then ends.
type Process struct {
	PID      int
	Attached bool // the box ends with Close
	// When the engine began to start the machine, and when it had. Zero if
	// the helper does not tell.
	BootBegin, BootEnd time.Time

	life *os.File
	once sync.Once
	done chan struct{}
	last Run // written before done is closed
}

// Close lets go of the box: an attached one ends, a detached one goes on. It
// is safe to call more than once.
func (p *Process) Close() { p.once.Do(func() { p.life.Close() }) }

// Done is closed when the shim has ended and been reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Last is the last state of the box: the zero Run when the shim could not tell.
// It is valid after Done, also when the box has been removed.
func (p *Process) Last() Run { return p.last }

// wait reads the shim's last word and reaps it.
func (p *Process) wait(cmd *exec.Cmd, replies *json.Decoder, status *os.File) {
	defer close(p.done)
	defer status.Close()
	var r reply
	if err := replies.Decode(&r); err == nil && r.Run != nil {
		p.last = *r.Run
	}
	_ = cmd.Wait()
	p.Close() // whoever started it may keep the Process for long
}

// Spawn starts a shim from the executable helper and returns when the box
// runs, or says with a [*Fault] why it does not. When ctx ends first, what was
// begun is undone.
func Spawn(ctx context.Context, helper string, spec Spec) (*Process, error) {
	var u undo.Stack
	defer u.Run()
	files, ours, err := pipes(&u)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:        helper,
		Args:        []string{Arg0, spec.Machine.ID},
		Env:         helperEnv(spec),
		Dir:         "/",
		ExtraFiles:  files,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if !spec.Check {
		log, err := shimLog(spec.Dir)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd.Stderr = log
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start helper %s: %w", helper, err)
	}
	p := &Process{PID: cmd.Process.Pid, Attached: spec.Attached, life: ours.life, done: make(chan struct{})}
	for _, f := range files {
		f.Close()
	}
	u.Keep()
	replies := json.NewDecoder(io.LimitReader(ours.status, maxMessage))
	err = p.handshake(ctx, ours, replies, spec)
	ours.spec.Close()
	go p.wait(cmd, replies, ours.status) // ends with the shim
	if err != nil {
		p.abort()
		return nil, err
	}
	return p, nil
}

// passed are the variables a shim inherits: where this host keeps the
// authorities it trusts, if not in the usual place, since requests with secrets
// are verified by them; and, for tests alone, where they write coverage, how the
// race detector behaves, and what the fake engine runs.
var passed = []string{"SSL_CERT_FILE", "SSL_CERT_DIR", "GOCOVERDIR", "GORACE", "BOXLITE_TEST_AGENT"}

// helperEnv is the environment of a shim: nothing of the caller's else. What an
// engine caches goes below the home, where nobody else can put anything.
func helperEnv(spec Spec) []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"XDG_CACHE_HOME=" + filepath.Join(filepath.Dir(spec.Database), "cache"),
	}
	for _, key := range passed {
		if v, ok := os.LookupEnv(key); ok { //nolint:forbidigo // they are not ours to make flags of
			env = append(env, key+"="+v)
		}
	}
	return env
}

func shimLog(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "logs", "shim.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Fault{Kind: KindGone, Message: "the box was removed, or its directory " + dir + " was"}
	}
	return f, err
}

// ends are the caller's ends of the pipes to a shim.
type ends struct{ spec, status, life *os.File }

func pipes(u *undo.Stack) (theirs []*os.File, ours ends, err error) {
	pipe := func(weWrite bool) (their, our *os.File) {
		if err != nil {
			return nil, nil
		}
		var r, w *os.File
		if r, w, err = os.Pipe(); err != nil {
			return nil, nil
		}
		u.Add(func() { r.Close(); w.Close() })
		if weWrite {
			return r, w
		}
		return w, r
	}
	theirs = make([]*os.File, 3)
	theirs[0], ours.spec = pipe(true)
	theirs[1], ours.status = pipe(false)
	theirs[2], ours.life = pipe(true)
	return theirs, ours, err
}

// handshake sends the spec and waits for the shim's word.
func (p *Process) handshake(ctx context.Context, ours ends, replies *json.Decoder, spec Spec) error {
	stop := context.AfterFunc(ctx, func() {
		ours.spec.SetDeadline(time.Unix(1, 0))
		ours.status.SetDeadline(time.Unix(1, 0))
	})
	defer stop()
	err := json.NewEncoder(ours.spec).Encode(spec)
	if err == nil {
		var r reply
		err = replies.Decode(&r)
		if err == nil && r.Fault != nil {
			return r.Fault
		}
		p.BootBegin, p.BootEnd = r.BootBegin, r.BootEnd
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, io.EOF), errors.Is(err, unix.EPIPE):
		return errors.New("the helper ended without a word; is it a boxlite binary, or a program that calls boxlite.RunHelper first in main? Its log is logs/shim.log in the box's directory")
	}
	return err
}

// abortTimeout is how long a shim may take to undo an interrupted start.
const abortTimeout = 15 * time.Second

// abort ends a shim whose start did not succeed and waits for it.
func (p *Process) abort() {
	p.Close()
	select {
	case <-p.done:
		return
	default:
	}
	// The pid is ours until done is closed, since nobody else reaps it.
	_ = unix.Kill(p.PID, unix.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(abortTimeout):
		_ = unix.Kill(p.PID, unix.SIGKILL)
		<-p.done
	}
}
