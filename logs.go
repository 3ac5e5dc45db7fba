package boxlite

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
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
	old, err := openLog(path + ".1")
	if err != nil {
		return nil, err
	}
	now, err := openLog(path)
	if err != nil {
		return nil, errors.Join(err, old.Close())
	}
	if o.Tail > 0 {
		if err := skipToTail(old, now, o.Tail); err != nil {
			return nil, errors.Join(err, old.Close(), now.Close())
		}
	}
	l := &logReader{Reader: io.MultiReader(old, now), files: []*os.File{old, now}}
	if o.Follow {
		l.Reader = io.MultiReader(old, &tailReader{b: b, ctx: ctx, f: now, path: path, l: l})
	}
	return l, nil
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
	if err != nil || left == 0 {
		if _, e := old.Seek(0, io.SeekEnd); err == nil {
			err = e
		}
		return err
	}
	_, err = seekLines(old, left)
	return err
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
	files []*os.File
}

func (l *logReader) Close() (err error) {
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
	path string
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
		if next, err := os.Open(t.path); err == nil {
			if t.moved(next) {
				continue
			}
			next.Close()
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

// moved goes on with next if it is another file than the one we read.
func (t *tailReader) moved(next *os.File) bool {
	a, errA := t.f.Stat()
	b, errB := next.Stat()
	if errA != nil || errB != nil || os.SameFile(a, b) {
		return false
	}
	t.f = next
	t.l.files = append(t.l.files, next)
	return true
}
