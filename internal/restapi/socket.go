package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// Times of the attach protocol, as BoxLite's server has them.
const (
	pingEvery   = 15 * time.Second
	pingTimeout = 30 * time.Second // a socket is dead 45 s after its last sign of life
	sendTimeout = 20 * time.Second
	aliveLook   = 10 * time.Millisecond
	aliveWait   = 3 * time.Second // for the answer of one that may be dead, when another wants its place
)

// maxMessage bounds a message from a client, in bytes. Clients send input in
// smaller pieces; a larger one is refused with close code 1009.
const maxMessage = 1 << 20

// tailWait is how long the first bytes of a character wait for the others.
// Programs that write characters in pieces write them at once.
const tailWait = 100 * time.Millisecond

// controls is what clients may do to a command besides writing to it. A
// [boxlite.Cmd] has it.
type controls interface {
	Signal(sig syscall.Signal) error
	Kill() error
	Resize(rows, cols uint16) error
}

// socket is one WebSocket that follows one execution.
type socket struct {
	x       *session
	wish    wish
	command func() controls

	conn   *websocket.Conn
	in     *input          // nil: none
	ctx    context.Context //nolint:containedctx // the life of the socket
	cancel context.CancelFunc
	ready  chan struct{} // closed when conn and in are set
	sent   atomic.Int64  // frames the client's side has taken
	away   chan struct{} // closed when the server ends
	leave  sync.Once     // closes away

	mu   sync.Mutex // of what is sent
	buf  []byte
	tail [3][]byte // by channel: the beginning of a character that has not ended
	wake *time.Timer
	dead bool
}

func newSocket(ctx context.Context, x *session, o wish, command func() controls) *socket {
	k := &socket{x: x, wish: o, command: command, ready: make(chan struct{}), away: make(chan struct{})}
	k.ctx, k.cancel = context.WithCancel(ctx)
	return k
}

// serve follows the execution until it or the socket ends.
func (k *socket) serve(conn *websocket.Conn, f *follower) {
	k.conn = conn
	if f != nil {
		k.in = f.in
	}
	close(k.ready)
	before := k.in.arrived()
	conn.SetReadLimit(maxMessage)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.CloseNow() //nolint:errcheck // closed in order before, where that was possible
	wg.Go(func() { defer k.cancel(); k.read() })
	wg.Go(k.ping)
	if f == nil {
		k.finish(k.x.result())
		return
	}
	if k.wish.acks && k.in != nil {
		wg.Go(func() { k.tell(before) })
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
		k.x.keep(k, f)
	}
}

// exitFrame is the last text frame of every execution.
type exitFrame struct {
	Type     string `json:"type"`
	ExitCode int    `json:"exit_code"`
	Signal   int    `json:"signal,omitempty"`
	Cause    string `json:"cause,omitempty"`
	Message  string `json:"message,omitempty"`
	Reason   string `json:"reason,omitempty"` // why the box died
}

// finish sends what is left and the exit, once, and closes.
func (k *socket) finish(x *exit) {
	k.mu.Lock()
	k.flushLocked(rest.Stdout)
	k.flushLocked(rest.Stderr)
	if x != nil {
		k.textLocked(exitFrame{"exit", x.code, x.signal, string(x.cause), message(x.cause, x.signal, x.reason), x.reason})
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
	for before := k.sent.Load(); ; before = k.sent.Load() {
		select {
		case <-t.C:
			if !k.lives(before) {
				k.cancel()
				return
			}
		case <-k.ctx.Done():
			return
		}
	}
}

// lives asks for a sign of life, unless there was one since before frames were
// sent: that the client takes output is one too.
func (k *socket) lives(before int64) bool {
	if k.sent.Load() != before || k.sending() {
		return true // if that is stuck, it ends by itself
	}
	return k.answers(max(pingTimeout, k.wish.patience))
}

// answers asks for a sign of life and waits for it.
func (k *socket) answers(timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	defer cancel()
	before := k.sent.Load()
	err := k.conn.Ping(ctx)
	switch {
	case err == nil:
		return true
	case !errors.Is(err, context.DeadlineExceeded):
		return false // nobody takes what is sent
	}
	// The answer of a slow client comes after all that was sent before.
	return k.full() || k.sent.Load() != before
}

// full tells whether the client has sent more than its command has read, so
// that nothing is read from it and no answer is seen.
func (k *socket) full() bool { return k.in != nil && k.in.full(k.room()) }

// room is how much input may wait before the client is read no more.
func (k *socket) room() int {
	if k.wish.acks {
		return maxTold
	}
	return maxInput
}

// tell says how much of what the client has sent its command has been given, until
// the socket or the stream ends.
func (k *socket) tell(before int64) {
	for told := before; ; {
		n, ok := k.in.taken(k.ctx, told+tellEvery)
		if !ok {
			return
		}
		told = n
		k.text(takenFrame{"taken", n - before})
	}
}

// takenFrame says how many bytes of the input from this socket have been taken.
type takenFrame struct {
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
}

// sending tells whether a frame is being sent now. To send a ping meanwhile
// would give the client less time to take it than it has.
func (k *socket) sending() bool {
	if !k.mu.TryLock() {
		return true
	}
	k.mu.Unlock()
	return false
}

// alive asks for a sign of life for somebody who wants the socket's place. A
// socket that gives none is ended.
func (k *socket) alive() bool {
	wait := time.NewTimer(aliveWait)
	defer wait.Stop()
	select {
	case <-k.ctx.Done():
		return false
	case <-k.ready:
	case <-wait.C:
		return true // about to be upgraded
	}
	again := time.NewTicker(aliveLook)
	defer again.Stop()
	for k.sending() {
		select {
		case <-again.C:
		case <-k.ctx.Done(): // nobody was there to take it
			return false
		case <-wait.C:
			return true // if that is stuck, it ends by itself
		}
	}
	lives := k.answers(aliveWait)
	if lives && k.full() { // if nobody is there, a second ping cannot be sent
		lives = k.answers(time.Second)
	}
	if !lives {
		k.cancel()
	}
	return lives
}

// read takes what the client sends until the socket ends.
func (k *socket) read() {
	refused := map[string]bool{}
	for {
		t, p, err := k.conn.Read(k.ctx)
		switch {
		case err != nil:
			return
		case t == websocket.MessageText:
			k.order(p, refused)
		case !k.wish.write:
			k.text(errorFrame{"error", "this client attached to read only", "read_only_attach"})
			_ = k.conn.Close(websocket.StatusPolicyViolation, "read-only attach")
			return
		case k.in != nil:
			k.in.put(k.ctx, p, k.room())
		}
	}
}

type errorFrame struct {
	Type    string `json:"type"`
	Message string `json:"message"`
	Code    string `json:"code,omitempty"`
}

// order does what a text frame says. What is wrong with it is told, and ends
// nothing.
func (k *socket) order(p []byte, refused map[string]bool) {
	var o rest.Order
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
	var err error
	switch o.Type {
	case "resize":
		if err = checkSize(o.Rows, o.Cols); err == nil {
			err = k.command().Resize(o.Rows, o.Cols)
		}
	case "signal":
		if err = checkSignal(o.Sig); err == nil {
			err = sendSignal(k.command(), o.Sig)
		}
	case "stdin_eof":
		if k.in != nil {
			k.in.close()
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
		k.flushLocked(rest.Stdout)
		k.flushLocked(rest.Stderr)
	})
}

func (k *socket) flushLocked(channel byte) {
	if len(k.tail[channel]) > 0 && !k.dead {
		_ = k.writeLocked(websocket.MessageBinary, append([]byte{channel}, k.tail[channel]...))
		k.tail[channel] = k.tail[channel][:0]
	}
}

func (k *socket) writeLocked(t websocket.MessageType, p []byte) error {
	ctx, cancel := context.WithTimeout(k.ctx, max(sendTimeout, k.wish.patience))
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
	name, channel := "stdout", byte(rest.Stdout)
	if stderr {
		name, channel = "stderr", rest.Stderr
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.flushLocked(channel) // what began before the gap ends in it
	k.textLocked(gapFrame{"gap", name, from, to})
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
