package boxlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// remoteProcess is a socket to an execution. It implements process.
type remoteProcess struct {
	conn   *websocket.Conn
	id     string
	gap    func(stderr bool, from, to int64)
	ctx    context.Context //nolint:containedctx // the life of the socket
	cancel context.CancelFunc
	out    *backlog
	in     inputWindow

	reason           string // why the box died, valid after Copy
	lostOut, lostErr int64  // valid after Copy
}

func newRemoteProcess(conn *websocket.Conn, id string, gap func(stderr bool, from, to int64)) *remoteProcess {
	p := &remoteProcess{conn: conn, id: id, gap: gap, out: newBacklog(), in: inputWindow{more: make(chan struct{}, 1)}}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

func (p *remoteProcess) ID() string { return p.id }

func (p *remoteProcess) Lost() (stdout, stderr int64) { return p.lostOut, p.lostErr }

func (p *remoteProcess) Close() error {
	p.cancel()
	return p.conn.CloseNow()
}

// Times of the attach protocol, as the server has them.
const (
	pingEvery = 15 * time.Second
	pingWait  = 30 * time.Second
)

// ping sees to it that a server that is gone is noticed. While output waits for the
// caller nothing is read, so no answer is seen.
func (p *remoteProcess) ping(ctx context.Context) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if p.out.full() {
				continue
			}
			wait, stop := context.WithTimeout(ctx, pingWait)
			err := p.conn.Ping(wait)
			stop()
			if err != nil && !p.out.full() {
				_ = p.conn.CloseNow()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// Copy writes output until the command has ended. What has come is written by a
// goroutine of its own: what the server says of the input is heard also while the
// caller takes no output.
func (p *remoteProcess) Copy(stdout, stderr io.Writer) (guest.Exit, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	defer context.AfterFunc(p.ctx, p.out.halt)()
	sinks := map[byte]*remoteSink{rest.Stdout: {w: stdout}, rest.Stderr: {w: stderr}}
	var wg sync.WaitGroup
	wg.Go(func() { p.ping(ctx) })
	wg.Go(func() { p.write(sinks) })
	x, err := p.read()
	p.out.finish()
	cancel()
	wg.Wait()
	if err == nil {
		err = errors.Join(sinks[rest.Stdout].err, sinks[rest.Stderr].err)
	}
	return x, err
}

// read takes what the server sends until the command has ended.
func (p *remoteProcess) read() (guest.Exit, error) {
	for {
		kind, r, err := p.conn.Reader(p.ctx)
		if err == nil && kind == websocket.MessageBinary {
			err = p.output(r)
		}
		if err != nil {
			return guest.Exit{}, broke(err)
		}
		if kind == websocket.MessageBinary {
			continue
		}
		var f rest.Frame
		text, err := io.ReadAll(r) // the socket bounds it
		if err == nil {
			err = json.Unmarshal(text, &f)
		}
		if err != nil {
			return guest.Exit{}, broke(err)
		}
		switch f.Type {
		case "exit":
			p.reason = f.Reason
			return guest.Exit{Code: f.ExitCode, Signal: f.Signal, Cause: guest.Cause(f.Cause)}, nil
		case "gap":
			p.out.add(outputPart{gap: &f})
		case "taken":
			p.in.taken(f.Bytes)
		}
	}
}

// broke is a socket that ended before the command.
func broke(err error) error {
	return fmt.Errorf("the connection broke: %w: %w", err, io.ErrUnexpectedEOF)
}

// output takes one message. The error is the socket's.
func (p *remoteProcess) output(r io.Reader) error {
	var channel [1]byte
	if _, err := io.ReadFull(r, channel[:]); err != nil {
		return err
	}
	for {
		buf := outputBuffers.Get().(*outputBuffer)
		n, err := r.Read(buf[:])
		if part := partOf(channel[0], buf, n); n > 0 {
			p.out.add(part)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// remoteSink is where one output goes. After its writer failed it discards.
type remoteSink struct {
	w   io.Writer
	err error
}

// write passes on what has come.
func (p *remoteProcess) write(sinks map[byte]*remoteSink) {
	for part, ok := p.out.next(); ok; part, ok = p.out.next() {
		if part.gap != nil {
			p.missed(part.gap)
			continue
		}
		if s := sinks[part.channel]; s != nil && s.w != nil && s.err == nil {
			_, s.err = s.w.Write(part.data)
		}
		part.done()
	}
}

func (p *remoteProcess) missed(f *rest.Frame) {
	n := max(0, f.To-f.From)
	if f.Stream == "stderr" {
		p.lostErr += n
	} else {
		p.lostOut += n
	}
	if p.gap != nil {
		p.gap(f.Stream == "stderr", f.From, f.To)
	}
}

// Stdin is the input of the command.
func (p *remoteProcess) Stdin() io.WriteCloser { return &remoteStdin{p} }

type remoteStdin struct{ p *remoteProcess }

// inputPiece is how much goes in one message, in bytes: a small part of the window.
const inputPiece = 64 << 10

// Write sends no more than the server takes at once: it must hear our pings and
// answers also while the command does not read.
func (s *remoteStdin) Write(b []byte) (int, error) {
	total := 0
	for piece := range slices.Chunk(b, inputPiece) {
		err := s.p.in.claim(s.p.ctx, len(piece))
		if err == nil {
			err = s.p.conn.Write(s.p.ctx, websocket.MessageBinary, piece)
		}
		if err != nil {
			return total, io.ErrClosedPipe // the command has ended, or the socket is gone
		}
		total += len(piece)
	}
	return total, nil
}

// Close sends the end of the input.
func (s *remoteStdin) Close() error {
	text, _ := json.Marshal(rest.Order{Type: "stdin_eof"}) // cannot fail
	return s.p.conn.Write(s.p.ctx, websocket.MessageText, text)
}
