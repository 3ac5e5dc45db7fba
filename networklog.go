package boxlite

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"os"
	"slices"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/shim"
)

// NetworkLogOptions say what of the log of a box's network to read.
type NetworkLogOptions struct {
	Refused bool // only what was refused
	Follow  bool // go on until the box stops
}

func (b *localBox) NetworkLog(ctx context.Context, o NetworkLogOptions) iter.Seq2[egress.Event, error] {
	return func(yield func(egress.Event, error) bool) {
		if _, err := b.Info(ctx); err != nil {
			yield(egress.Event{}, err)
			return
		}
		r, err := b.readLog(ctx, shim.NetworkLogPath(b.dir()), LogOptions{Follow: o.Follow})
		if err != nil {
			yield(egress.Event{}, b.fail("network log", err))
			return
		}
		readEvents(r, func(e egress.Event, err error) bool {
			if err == nil && o.Refused && e.Action != egress.Deny {
				return true
			}
			return yield(e, b.fail("network log", err))
		})
	}
}

// readEvents yields the lines of a log to its end, and closes it.
func readEvents(r io.ReadCloser, yield func(egress.Event, error) bool) {
	defer r.Close()
	lines := bufio.NewReaderSize(r, 2*maxEventLine)
	for {
		line, err := lines.ReadSlice('\n')
		if e, ok := parseEvent(line); ok && !yield(e, nil) {
			return
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case errors.Is(err, bufio.ErrBufferFull): // what is so long is no event
		case err != nil:
			yield(egress.Event{}, err)
			return
		}
	}
}

// maxEventLine is about the longest line: a name of 253 bytes and a rule of
// 512, each of them possibly escaped.
const maxEventLine = 8 << 10

// parseEvent reads a line of the log. A line that a crash has cut is none.
func parseEvent(line []byte) (e egress.Event, ok bool) {
	if len(line) > maxEventLine || !bytes.HasSuffix(line, []byte("\n")) {
		return e, false
	}
	return e, json.Unmarshal(line, &e) == nil
}

const (
	// refusalsShown is how many refusals an inspection shows.
	refusalsShown = 5
	// refusalsSeen is how much of the end of the log is looked at for them,
	// in bytes: some hundred events, in a fraction of a millisecond.
	refusalsSeen = 64 << 10
)

// lastRefusals finds the last refusals near the end of the log of a box.
func lastRefusals(dir string) (found []egress.Event) {
	f, err := os.Open(shim.NetworkLogPath(dir))
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil {
		_, _ = f.Seek(max(0, st.Size()-refusalsSeen), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(f, refusalsSeen))
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		if e, ok := parseEvent(line); ok && e.Action == egress.Deny {
			found = append(found, e)
		}
		if len(found) == refusalsShown {
			break
		}
	}
	slices.Reverse(found)
	return found
}

func publicPorts(ports []shim.Port) (list []Port) {
	for _, p := range ports {
		list = append(list, Port{HostIP: p.Host.Addr().String(), HostPort: p.Host.Port(), BoxPort: p.Box, Proto: string(p.Proto)})
	}
	return list
}
