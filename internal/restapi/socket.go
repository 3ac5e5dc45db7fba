package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/coder/websocket"
)

// Times of the attach protocol, as BoxLite's server has them.
const (
	pingEvery   = 15 * time.Second
	pingTimeout = 30 * time.Second // a socket is dead 45 s after its last sign of life
	sendTimeout = 20 * time.Second
	aliveWait   = 3 * time.Second // for the answer of one that may be dead, when another wants its place
)

// maxMessage bounds a message from a client, in bytes. Clients send input in
// smaller pieces; a larger one is refused with close code 1009.
const maxMessage = 1 << 20

// tailWait is how long the first bytes of a character wait for the others.
// Programs that write characters in pieces write them at once.
const tailWait = 100 * time.Millisecond

// socket is one WebSocket that follows one execution.
type socket struct {
	s    *Server
	b    *boxlite.Box
	x    *session
	wish wish

	conn   *websocket.Conn
	ctx    context.Context //nolint:containedctx // the life of the socket
	cancel context.CancelFunc
	ready  chan struct{} // closed when conn is set
	busy   atomic.Bool   // input waits for the command, so pongs are not seen
	sent   atomic.Int64  // frames the client's side has taken
	away   chan struct{} // closed when the server ends
	leave  sync.Once     // closes away

	mu   sync.Mutex // of what is sent
	buf  []byte
	tail [3][]byte // by channel: the beginning of a character that has not ended
	wake *time.Timer
	dead bool
}

func newSocket(s *Server, b *boxlite.Box, x *session, o wish) *socket {
	k := &socket{s: s, b: b, x: x, wish: o, ready: make(chan struct{}), away: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(s.ctx)
	return k
}

// serve follows the execution until it or the socket ends.
func (k *socket) serve(conn *websocket.Conn, f *follower) {
	k.conn = conn
	close(k.ready)
	conn.SetReadLimit(maxMessage)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseNow() //nolint:errcheck // closed in order before, where that was possible
	wg.Go(func() { defer k.cancel(); k.read(f) })
	wg.Go(k.ping)
	if f == nil {
		k.finish(k.x.result())
		return
	}
	f.join(k)
	select {
	case <-f.done:
		x := f.exit
		if x == nil {
			x = k.x.result()
		}
		k.finish(x)
	case <-k.away:
		f.letGo()
		_ = conn.Close(websocket.StatusGoingAway, "the server is shutting down")
	case <-k.ctx.Done():
		if k.busy.Load() {
			f.letGo() // so that the write of input ends, which waits for the command
		} else {
			k.parkOrDrop(f)
		}
	}
}

// parkOrDrop leaves a stream behind: that of a writer waits for it to come
// back, that of a reader ends.
func (k *socket) parkOrDrop(f *follower) {
	if f == nil {
		return
	}
	if !k.wish.write {
		f.letGo()
		return
	}
	f.park()
	k.x.mu.Lock()
	old := k.x.parked
	k.x.parked = f
	k.x.mu.Unlock()
	if old != nil && old != f {
		old.letGo()
	}
	select {
	case <-f.done: // it ended meanwhile, and nothing waits any more
		k.x.unpark(nil)
	default:
	}
}

// exitFrame is the last text frame of every execution.
type exitFrame struct {
	Type     string `json:"type"`
	ExitCode int    `json:"exit_code"`
	Signal   int    `json:"signal,omitempty"`
	Cause    string `json:"cause,omitempty"`
	Message  string `json:"message,omitempty"`
}

// finish sends what is left and the exit, once, and closes.
func (k *socket) finish(x *exit) {
	k.mu.Lock()
	k.flushLocked(chanStdout)
	k.flushLocked(chanStderr)
	if x != nil {
		k.textLocked(exitFrame{"exit", x.code, x.signal, string(x.cause), message(x.cause, x.signal, x.reason)})
	}
	k.dead = true
	k.mu.Unlock()
	if x == nil {
		_ = k.conn.Close(websocket.StatusInternalError, "the end of the execution is not known")
		return
	}
	_ = k.conn.Close(websocket.StatusNormalClosure, "") // waits 5 s for the other side
}

// goAway ends the socket because the server ends.
func (k *socket) goAway() { k.leave.Do(func() { close(k.away) }) }

// ping sees to it that a dead line is noticed, and that proxies keep a silent
// one.
func (k *socket) ping() {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if k.busy.Load() {
				continue
			}
			ctx, cancel := context.WithTimeout(k.ctx, pingTimeout)
			before := k.sent.Load()
			err := k.conn.Ping(ctx)
			cancel()
			// The answer of a slow client comes after all that was sent before
			// the question; that it takes output is a sign of life too.
			if err != nil && !k.busy.Load() && k.sent.Load() == before {
				k.cancel()
				return
			}
		case <-k.ctx.Done():
			return
		}
	}
}

// alive asks for a sign of life. A socket that gives none is ended.
func (k *socket) alive(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, aliveWait)
	defer cancel()
	if k.ctx.Err() != nil {
		return false
	}
	select {
	case <-k.ready:
	case <-k.ctx.Done():
		return false
	case <-ctx.Done():
		return true // about to be upgraded
	}
	if k.busy.Load() {
		return true
	}
	if err := k.conn.Ping(ctx); err != nil {
		k.cancel()
		return false
	}
	return true
}

// read takes what the client sends until the socket ends.
func (k *socket) read(f *follower) {
	refused := map[string]bool{}
	for {
		t, p, err := k.conn.Read(k.ctx)
		switch {
		case err != nil:
			return
		case t == websocket.MessageText:
			k.order(p, f, refused)
		case !k.wish.write:
			k.text(errorFrame{"error", "this client attached to read only", "read_only_attach"})
			_ = k.conn.Close(websocket.StatusPolicyViolation, "read-only attach")
			return
		case f != nil && f.stdin != nil:
			k.busy.Store(true)
			_, _ = f.stdin.Write(p) // a command need not read it
			k.busy.Store(false)
		}
	}
}

// order is a text frame of a client.
type order struct {
	Type string `json:"type"`
	Cols uint16 `json:"cols"`
	Rows uint16 `json:"rows"`
	Sig  int    `json:"sig"`
}

type errorFrame struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
}

// order does what a text frame says. What is wrong with it is told, and ends
// nothing.
func (k *socket) order(p []byte, f *follower, refused map[string]bool) {
	var o order
	if err := httpapi.DecodeBytes(p, &o); err != nil {
		k.fail(err)
		return
	}
	if !k.wish.write {
		if !refused[o.Type] && len(refused) < 8 { // each once
			refused[o.Type] = true
			k.text(errorFrame{"error", "this client attached to read only", "read_only_attach"})
		}
		return
	}
	cmd := k.b.Attach(k.ctx, k.x.id)
	var err error
	switch o.Type {
	case "resize":
		err = cmd.Resize(o.Rows, o.Cols)
	case "signal":
		if err = checkSignal(o.Sig); err == nil {
			err = sendSignal(cmd, o.Sig)
		}
	case "stdin_eof":
		if f != nil && f.stdin != nil {
			f.stdin.Close()
		}
	default:
		err = httpapi.InvalidArgument.Errorf("type %.40q: there are resize, signal and stdin_eof", o.Type)
	}
	if err != nil {
		k.fail(err)
	}
}

func (k *socket) fail(err error) {
	e := httpapi.ErrorOf(err)
	k.text(errorFrame{"error", e.Message, e.Code})
}

func (k *socket) text(v any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.textLocked(v)
}

// textLocked sends a text frame. That it fails shows at the next read.
func (k *socket) textLocked(v any) {
	p, err := json.Marshal(v)
	if err == nil && !k.dead {
		_ = k.writeLocked(websocket.MessageText, p)
	}
}

var errDead = errors.New("the socket is closed")

// send sends output, except for a character at its end that is not whole yet:
// clients decode frame by frame. It implements sink.
func (k *socket) send(channel byte, p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.dead {
		return errDead
	}
	k.buf = append(append(append(k.buf[:0], channel), k.tail[channel]...), p...)
	cut := len(k.buf) - partial(k.buf[1:])
	if cut > 1 {
		if err := k.writeLocked(websocket.MessageBinary, k.buf[:cut]); err != nil {
			return err
		}
	}
	k.tail[channel] = append(k.tail[channel][:0], k.buf[cut:]...)
	if len(k.tail[channel]) > 0 {
		k.flushLater()
	}
	return nil
}

// partial is how many bytes at the end of p begin a character that needs more.
func partial(p []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(p)); n++ {
		if c := p[len(p)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// flushLater sends the beginning of a character after all if its end does not
// come: then it was none.
func (k *socket) flushLater() {
	if k.wake != nil {
		k.wake.Reset(tailWait)
		return
	}
	k.wake = time.AfterFunc(tailWait, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.flushLocked(chanStdout)
		k.flushLocked(chanStderr)
	})
}

func (k *socket) flushLocked(channel byte) {
	if len(k.tail[channel]) > 0 && !k.dead {
		_ = k.writeLocked(websocket.MessageBinary, append([]byte{channel}, k.tail[channel]...))
		k.tail[channel] = k.tail[channel][:0]
	}
}

func (k *socket) writeLocked(t websocket.MessageType, p []byte) error {
	ctx, cancel := context.WithTimeout(k.ctx, sendTimeout)
	defer cancel()
	err := k.conn.Write(ctx, t, p)
	if err != nil {
		k.dead = true
		k.cancel()
		return err
	}
	k.sent.Add(1)
	return nil
}

// gapFrame says that output is no longer kept.
type gapFrame struct {
	Type   string `json:"type"`
	Stream string `json:"stream"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
}

// gap implements sink.
func (k *socket) gap(stderr bool, from, to int64) {
	name := "stdout"
	if stderr {
		name = "stderr"
	}
	k.text(gapFrame{"gap", name, from, to})
}

// headerHas tells whether a header has a token in one of its lists.
func headerHas(h http.Header, key, token string) bool {
	for _, v := range h.Values(key) {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
