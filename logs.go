package boxlite

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/shim"
)

// LogOptions say what of a log to read.
type LogOptions struct {
	Tail   int  // the last lines only; 0 means all that is kept
	Follow bool // go on until the box stops
}

func (b *localBox) Logs(ctx context.Context, o LogOptions) (io.ReadCloser, error) {
	if _, err := b.Info(ctx); err != nil {
		return nil, err
	}
	r, err := b.readLog(ctx, shim.LogPath(b.dir()), o)
	return r, b.fail("logs", err)
}

// readLog reads a log and what was moved aside of it.
func (b *localBox) readLog(ctx context.Context, path string, o LogOptions) (io.ReadCloser, error) {
	old, now, err := openLogs(path)
	if err != nil {
		return nil, err
	}
	if o.Tail > 0 {
		if err := skipToTail(old, now, o.Tail); err != nil {
			return nil, errors.Join(err, old.Close(), now.Close())
		}
	}
	l := &logReader{Reader: io.MultiReader(old, now), files: []*os.File{old, now}}
	if o.Follow {
		l.Reader = io.MultiReader(old, &tailReader{b: b, ctx: ctx, f: now, l: l, open: func() (*os.File, error) { return os.Open(path) }})
	}
	return l, nil
}

// openLogs opens a log and what was moved aside of it.
func openLogs(path string) (old, now *os.File, err error) {
	if now, err = openLog(path); err != nil {
		return nil, nil, err
	}
	if old, err = openLog(path + ".1"); err == nil && sameFile(old, now) { // it was moved this moment
		old.Close()
		old, err = os.Open(os.DevNull)
	}
	if err != nil {
		return nil, nil, errors.Join(err, now.Close())
	}
	return old, now, nil
}

func sameFile(f, g *os.File) bool {
	a, errA := f.Stat()
	b, errB := g.Stat()
	return errA == nil && errB == nil && os.SameFile(a, b)
}

// openLog opens a log, or an empty file in its place.
func openLog(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return os.Open(os.DevNull)
	}
	return f, err
}

// skipToTail moves both files forward so that n lines are left.
func skipToTail(old, now *os.File, n int) error {
	left, err := seekLines(now, n)
	if err == nil && continues(old, now) {
		left++ // their last and first line are one
	}
	if err != nil || left == 0 {
		if _, e := old.Seek(0, io.SeekEnd); err == nil {
			err = e
		}
		return err
	}
	_, err = seekLines(old, left)
	return err
}

// continues tells whether now, which is not empty, is at its beginning, and old
// ends in the middle of a line.
func continues(old, now *os.File) bool {
	at, err := now.Seek(0, io.SeekCurrent)
	size, errSize := now.Stat()
	st, errOld := old.Stat()
	if errors.Join(err, errSize, errOld) != nil || at > 0 || size.Size() == 0 || st.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = old.ReadAt(last[:], st.Size()-1)
	return err == nil && last[0] != '\n'
}

// seekLines moves f to the beginning of its last n lines, and returns how many
// it had too few.
func seekLines(f *os.File, n int) (missing int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	pos, first := end, true
	for pos > 0 {
		size := min(int64(len(buf)), pos)
		pos -= size
		if _, err := f.ReadAt(buf[:size], pos); err != nil {
			return 0, err
		}
		part := buf[:size]
		if first { // the newline that ends the last line does not begin one
			part, first = bytes.TrimSuffix(part, []byte("\n")), false
		}
		for i := bytes.LastIndexByte(part, '\n'); i >= 0; i = bytes.LastIndexByte(part[:i], '\n') {
			if n--; n == 0 {
				_, err := f.Seek(pos+int64(i)+1, io.SeekStart)
				return 0, err
			}
		}
	}
	if end > 0 {
		n--
	}
	_, err = f.Seek(0, io.SeekStart)
	return n, err
}

type logReader struct {
	io.Reader

	mu     sync.Mutex
	files  []*os.File
	closed bool
}

// add takes another file, unless it is too late.
func (l *logReader) add(f *os.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(os.ErrClosed, f.Close())
	}
	l.files = append(l.files, f)
	return nil
}

// drop closes a file that has been read.
func (l *logReader) drop(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = slices.DeleteFunc(l.files, func(g *os.File) bool { return f == g })
	f.Close()
}

// Close ends a Read under way, too.
func (l *logReader) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, f := range l.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// tailReader reads a log that grows and is moved aside.
type tailReader struct {
	b    *localBox
	ctx  context.Context //nolint:containedctx // io.Reader has no place for one
	f    *os.File
	next *os.File                 // has taken the place of f, which is read to its end first; nil: none
	open func() (*os.File, error) // the log as it is called now
	l    *logReader
}

// pollLog is how often a followed log is looked at.
const pollLog = 50 * time.Millisecond

func (t *tailReader) Read(p []byte) (int, error) {
	for {
		run, runErr := shim.Read(t.b.dir()) // before the read, so that the last bytes are not missed
		n, err := t.f.Read(p)
		if n > 0 || err != nil && err != io.EOF {
			return n, err
		}
		if t.next != nil {
			t.l.drop(t.f)
			t.f, t.next = t.next, nil
			continue
		}
		if err := t.look(); err != nil {
			return 0, err
		}
		if t.next != nil {
			continue
		}
		if runErr != nil || !run.Active() {
			return 0, io.EOF
		}
		select {
		case <-time.After(pollLog):
		case <-t.ctx.Done():
			return 0, context.Cause(t.ctx)
		}
	}
}

// look finds the log that has taken the place of the one we read, if one has.
func (t *tailReader) look() error {
	next, err := t.open()
	if err != nil {
		return nil //nolint:nilerr // in between: look again
	}
	if sameFile(t.f, next) {
		return next.Close()
	}
	t.next = next
	return t.l.add(next)
}
