package boxlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/image"
	"github.com/boxlite-go/boxlite/internal/shim"
)

// checkArgs bounds what a command line may hold, as the kernel would, but with
// an error that says so.
func checkArgs(args, env []string) error {
	size := 0
	for _, s := range slices.Concat(args, env) {
		if err := checkText(s); err != nil {
			return err
		}
		size += len(s) + 1
	}
	for _, kv := range env {
		if key, _, ok := strings.Cut(kv, "="); !ok || key == "" {
			return fmt.Errorf("%w: environment %q: give KEY=value", ErrInvalid, kv)
		}
	}
	switch {
	case len(args) > maxArgs || len(env) > maxArgs:
		return fmt.Errorf("%w: more than %d arguments or variables; put them in a file and copy it in", ErrInvalid, maxArgs)
	case size > maxArgBytes:
		return fmt.Errorf("%w: arguments and environment of %d bytes, at most %d; put them in a file and copy it in", ErrInvalid, size, maxArgBytes)
	}
	return nil
}

// checkText finds what does not arrive as it is: what boxlite keeps of a box, and
// says to other processes, is text.
func checkText(list ...string) error {
	for _, s := range list {
		if strings.ContainsRune(s, 0) || !utf8.ValidString(s) {
			return fmt.Errorf("%w: %q is not text: it has a zero byte or is not UTF-8", ErrInvalid, s)
		}
	}
	return nil
}

// checkImage finds a bad reference when the box is created.
func checkImage(o BoxOptions) error {
	if o.Rootfs != "" {
		return nil
	}
	_, err := image.ParseReference(o.Image)
	return imageErr(err)
}

// spaceErr marks a full disk.
func spaceErr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w; free some space, or prune images", ErrExhausted, err)
	}
	return err
}

// imageErr finds the public condition behind an error of the image store.
func imageErr(err error) error {
	for _, m := range []struct{ from, to error }{
		{image.ErrInvalidReference, ErrInvalid},
		{image.ErrNotFound, ErrNotFound},
		{image.ErrManifestUnknown, ErrNotFound},
		{image.ErrUnauthorized, ErrUnauthorized},
		{image.ErrUnreachable, ErrUnreachable},
		{image.ErrInUse, ErrState},
		{image.ErrNoSpace, ErrExhausted},
		{image.ErrHostile, ErrImage},
		{image.ErrDigest, ErrImage},
		{image.ErrPlatform, ErrImage},
	} {
		if errors.Is(err, m.from) {
			return &cause{m.to, err}
		}
	}
	return spaceErr(err)
}

// cause gives an error a public condition without changing what it says.
type cause struct {
	condition error
	err       error
}

func (c *cause) Error() string { return c.err.Error() }

func (c *cause) Unwrap() []error { return []error{c.condition, c.err} }

// guestErr finds the public condition behind an error of the agent.
func guestErr(err error) error {
	e, ok := errors.AsType[*guest.Error](err)
	if !ok {
		return err
	}
	conditions := map[guest.Kind]error{
		guest.KindInvalid:     ErrInvalid,
		guest.KindNoUser:      ErrInvalid,
		guest.KindNotDir:      ErrInvalid,
		guest.KindIsDir:       ErrInvalid,
		guest.KindNotFound:    ErrNotFound,
		guest.KindNoExecution: ErrNotFound,
		guest.KindExists:      ErrExists,
		guest.KindNoSpace:     ErrExhausted,
		guest.KindBusy:        ErrExhausted,
		guest.KindStopping:    ErrState,
	}
	if c := conditions[e.Kind]; c != nil {
		return &cause{c, err}
	}
	return err
}

// commandErr is guestErr for a command that could not be run, here or in the
// shim.
func commandErr(err error) error {
	if f, ok := errors.AsType[*shim.Fault](err); ok && f.Command != nil {
		err = f.Command
	}
	e, ok := errors.AsType[*guest.Error](err)
	if !ok {
		return err
	}
	switch e.Kind {
	case guest.KindNotFound:
		return &CommandError{Code: 127, Err: &cause{ErrNotFound, err}}
	case guest.KindNotExecutable:
		return &CommandError{Code: 126, Err: &cause{fs.ErrPermission, err}}
	}
	return guestErr(err)
}

// diedTimeout is how long the end of a box may take to be written down after
// its streams broke.
const diedTimeout = 3 * time.Second

// errBroke says that a stream to a box broke, and the box goes on.
var errBroke = errors.New("the connection to the box broke")

// died says why the box ended under a command.
func (b *localBox) died(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diedTimeout)
	defer cancel()
	run, known := b.lastRun(ctx)
	e := &ExitError{Code: -1, Cause: CauseBoxDied, Reason: run.Reason}
	switch {
	case run.OOM:
		e.Cause, e.Code, e.Signal = CauseOOM, 128+int(syscall.SIGKILL), int(syscall.SIGKILL)
	case run.Active():
		return &cause{ErrBoxDied, errBroke}
	case known && run.State == shim.Stopped && run.Reason == "":
		e.Reason = "it was stopped"
	case !known:
		e.Reason = "it was removed"
	}
	return e
}

// lastRun waits for the box to have ended and returns its last state.
func (b *localBox) lastRun(ctx context.Context) (run shim.Run, known bool) {
	b.rt.mu.Lock()
	p := b.rt.shims[b.id]
	b.rt.mu.Unlock()
	if p != nil {
		select {
		case <-p.Done():
			if run := p.Last(); run.State != "" {
				return run, true
			}
		case <-ctx.Done():
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		run, err := shim.Read(b.dir())
		if err != nil || !run.Active() {
			return run, err == nil && run.State != ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return run, true
		}
	}
}

// killed says why a command got SIGKILL that nobody here sent: the memory
// limit, the end of the box, or something in the box.
func (b *localBox) killed(ctx context.Context, e *ExitError) error {
	st, _, err := b.shim().Stats(ctx)
	if errors.Is(err, shim.ErrNotRunning) {
		return b.died(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil && st.OOMKills > b.oomSeen {
		b.oomSeen, e.Cause = st.OOMKills, CauseOOM
	}
	return e
}

// headTail keeps the beginning and the end of what is written to it, 32 KiB
// of each, as os/exec does.
type headTail struct {
	head, tail bytes.Buffer
	skipped    int64
}

const headTailSize = 32 << 10

func (h *headTail) Write(p []byte) (int, error) {
	n := len(p)
	if room := headTailSize - h.head.Len(); room > 0 {
		take := min(room, len(p))
		h.head.Write(p[:take])
		p = p[take:]
	}
	h.tail.Write(p)
	if over := h.tail.Len() - headTailSize; over > 0 {
		h.tail.Next(over)
		h.skipped += int64(over)
	}
	return n, nil
}

// Bytes returns what was kept.
func (h *headTail) Bytes() []byte {
	if h.skipped == 0 {
		return slices.Concat(h.head.Bytes(), h.tail.Bytes())
	}
	gap := fmt.Sprintf("\n... omitting %d bytes ...\n", h.skipped)
	return slices.Concat(h.head.Bytes(), []byte(gap), h.tail.Bytes())
}
