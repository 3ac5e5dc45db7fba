package restapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

func TestAttachStreams(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	c := x.attach(b, x.exec(b, "cat; echo err >&2; exit 3"), "")
	c.send(websocket.MessageBinary, "in ")
	c.send(websocket.MessageBinary, "put")
	c.send(websocket.MessageText, `{"type":"stdin_eof"}`)
	if e := c.exit(3); e.out != "in put" || e.err != "err\n" {
		t.Errorf("got %q and %q", e.out, e.err)
	}
}

// TestAttachLosesNothing: what a command writes before its client comes waits
// for it, however much it is.
func TestAttachLosesNothing(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "head -c 8000000 /dev/zero | tr '\\0' x")
	want[rest.Execution](x, 200, "GET", "/v1/boxes/"+b+"/executions/"+id, "")
	if e := x.attach(b, id, "").exit(0); len(e.out) != 8e6 {
		t.Errorf("got %d bytes, want 8000000", len(e.out))
	}
}

// TestAttachAgain: a client whose line was cut gets what is kept once more, or
// what it lacks if it counts, and the exit.
func TestAttachAgain(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "echo one; echo err >&2; read line; echo got $line")
	c := x.attach(b, id, "")
	c.until("\n")
	c.until("\n")
	c.conn.CloseNow()
	again := x.attach(b, id, "")
	if got := again.until("\n") + again.until("\n"); !strings.Contains(got, "one\n") || !strings.Contains(got, "err\n") {
		t.Errorf("replay: got %q, want one and err", got)
	}
	again.conn.CloseNow()
	from := x.attach(b, id, "?stdout_offset=2&stderr_offset=4")
	from.send(websocket.MessageBinary, "input\n")
	if e := from.exit(0); e.out != "e\ngot input\n" || e.err != "" {
		t.Errorf("from an offset: got %q and %q, want %q", e.out, e.err, "e\ngot input\n")
	}
	// After its end too, as often as asked.
	for range 2 {
		if e := x.attach(b, id, "").exit(0); e.out != "one\ngot input\n" {
			t.Errorf("after the end: got %q", e.out)
		}
	}
}

// TestGap: a client that asks for what is no longer kept is told so.
func TestGap(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "head -c 3000000 /dev/zero | tr '\\0' x")
	x.attach(b, id, "").exit(0)
	e := x.attach(b, id, "?stdout_offset=5").exit(0)
	gap := fmt.Sprintf(`{"type":"gap","stream":"stdout","from":5,"to":%d}`, 3000000-1<<20)
	if len(e.texts) != 1 || e.texts[0] != gap || len(e.out) != 1<<20 {
		t.Errorf("got %v and %d bytes, want %s and %d", e.texts, len(e.out), gap, 1<<20)
	}
}

// TestOneWriterManyReaders: the second writer is refused before the upgrade;
// readers see the same as the writer, and cannot write.
func TestOneWriterManyReaders(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "read a; echo got $a")
	writer := x.attach(b, id, "")
	go writer.conn.CloseRead(t.Context()) // answers pings; input is sent all the same
	if _, resp, err := x.dial(b, id, ""); err == nil || resp.StatusCode != http.StatusConflict {
		t.Fatalf("second writer: got %v, %v, want 409", resp, err)
	}
	readers := []*socketClient{x.attach(b, id, "?stdin=0"), x.attach(b, id, "?stdin=false"), x.attach(b, id, "?stdin=0")}
	intruder := x.attach(b, id, "?stdin=0")
	intruder.send(websocket.MessageText, `{"type":"signal","sig":9}`)
	intruder.send(websocket.MessageText, `{"type":"signal","sig":9}`)
	intruder.send(websocket.MessageText, `{"type":"stdin_eof"}`)
	intruder.send(websocket.MessageBinary, "intrusion\n")
	e := intruder.rest()
	if e.close != websocket.StatusPolicyViolation || len(e.texts) != 3 || !strings.Contains(e.texts[0], "read_only_attach") {
		t.Errorf("a reader that writes: got close %d and %q, want 1008 after an error for each kind", e.close, e.texts)
	}
	writer.send(websocket.MessageBinary, "word\n")
	for _, r := range readers {
		if e := r.exit(0); e.out != "got word\n" {
			t.Errorf("reader: got %q", e.out)
		}
	}
	if _, resp, err := x.dial(b, id, "?stdin=maybe"); err == nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("stdin=maybe: got %v, %v, want 400", resp, err)
	}
}

// TestWriterThatIsGone: a client whose line is dead does not keep its place
// from itself.
func TestWriterThatIsGone(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "read a; echo got $a")
	x.attach(b, id, "") // answers no ping, since nobody reads
	again := x.attach(b, id, "")
	again.send(websocket.MessageBinary, "word\n")
	if e := again.exit(0); e.out != "got word\n" {
		t.Errorf("got %q", e.out)
	}
}

// TestSlowReadersHoldUpNobody: those that take nothing cost the writer and the
// command nothing, and the server no more than their buffers.
func TestSlowReadersHoldUpNobody(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	const size, readers = 12_000_000, 40
	id := x.exec(b, fmt.Sprintf("read go; head -c %d /dev/zero | tr '\\0' x", size))
	writer := x.attach(b, id, "")
	for range readers {
		x.attach(b, id, "?stdin=0") // reads nothing
	}
	writer.send(websocket.MessageBinary, "go\n")
	if e := writer.exit(0); len(e.out) != size {
		t.Errorf("got %d bytes, want %d", len(e.out), size)
	}
	slow := x.s.sessions.get(b, id).open()
	if len(slow) == 0 {
		t.Fatal("no reader is left, so this shows nothing")
	}
	for _, k := range slow {
		if n := cap(k.buf); n > 1<<20 {
			t.Errorf("a slow reader keeps %d bytes", n)
		}
	}
}

// TestSlowWriterHoldsUpItsCommandOnly: a client that takes output now and then
// stops its own command when what is kept is full, and nothing else; it gets
// all of it.
func TestSlowWriterHoldsUpItsCommandOnly(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	const line, size = "0123456789abcde\n", 100_000_000
	slow := x.exec(b, fmt.Sprintf("yes %s | head -c %d", line[:15], size))
	c := x.attach(b, slow, "")
	got := 0
	for got < size {
		_, p, err := c.frame()
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		for i := 0; i < len(p); i += 1 << 10 {
			if p[i] != line[(got+i)%len(line)] {
				t.Fatalf("byte %d: got %q", got+i, p[i])
			}
		}
		before := got / (size / 8)
		if got += len(p); got/(size/8) == before || got == size {
			continue
		}
		if e := x.attach(b, x.exec(b, "echo quick"), "").exit(0); e.out != "quick\n" {
			t.Errorf("another command: got %q", e.out)
		}
		if r := want[rest.Execution](x, 200, "GET", "/v1/boxes/"+b+"/executions/"+slow, ""); got < size/2 && r.Status != "running" {
			t.Errorf("%d bytes that nobody has taken: got %s, want running", size-got, r.Status)
		}
	}
	if e := c.exit(0); e.out != "" {
		t.Errorf("%d bytes too many", len(e.out))
	}
}

// TestExitOnceAlways: whoever ends an execution, and however, those who follow
// it get one exit.
func TestExitOnceAlways(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	const wait = "echo ready; exec sleep 1000" // one process: a shell may see its child die first, and tell
	for _, tt := range []struct {
		name   string
		end    func(b, id string)
		code   int
		status string // afterwards; empty: not known any more
	}{
		{"DELETE", func(b, id string) { want[any](x, 204, "DELETE", "/v1/boxes/"+b+"/executions/"+id, "") }, 137, ""},
		{"signal", func(b, id string) {
			want[any](x, 204, "POST", "/v1/boxes/"+b+"/executions/"+id+"/signal", `{"signal":15}`)
		}, 143, "killed"},
		{"kill", func(b, id string) {
			want[any](x, 204, "POST", "/v1/boxes/"+b+"/executions/"+id+"/signal", `{"signal":9}`)
		}, 137, "killed"},
		{"stop of the box", func(b, _ string) { want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/stop", "") }, 143, "*"}, // who dies first is not said
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := x.box()
			id := x.exec(b, wait)
			c, reader := x.attach(b, id, ""), x.attach(b, id, "?stdin=0")
			c.until("ready\n")
			tt.end(b, id)
			c.exit(tt.code)
			reader.exit(tt.code)
			a := x.do("GET", "/v1/boxes/"+b+"/executions/"+id, "")
			if tt.status == "" {
				if _, resp, err := x.dial(b, id, ""); a.status != 404 || err == nil || resp.StatusCode != http.StatusNotFound {
					t.Errorf("after DELETE: status %d, attach %v; want 404", a.status, err)
				}
			} else if tt.status != "*" && !strings.Contains(string(a.body), fmt.Sprintf(`"status":"%s","exit_code":%d`, tt.status, tt.code)) {
				t.Errorf("status: got %v, want %s %d", a, tt.status, tt.code)
			}
		})
	}
	t.Run("timeout", func(t *testing.T) {
		b := x.box()
		id := x.exec(b, wait, `"timeout_seconds":0.2`)
		if e := x.attach(b, id, "").exit(137); e.exits[0].Cause != "timeout" {
			t.Errorf("cause: got %q, want timeout", e.exits[0].Cause)
		}
	})
	t.Run("removal of the box", func(t *testing.T) {
		b := x.box()
		c := x.attach(b, x.exec(b, wait), "")
		c.until("ready\n")
		want[any](x, 204, "DELETE", "/v1/boxes/"+b+"?force=true", "")
		if e := c.rest(); len(e.exits) != 1 || e.exits[0].ExitCode == 0 {
			t.Errorf("got exits %+v, want one that is no success", e.exits)
		}
	})
	t.Run("end of the server", func(t *testing.T) {
		b := x.box(`"detach":true`)
		c := x.attach(b, x.exec(b, wait), "")
		c.until("ready\n")
		go x.s.sessions.closeAll()
		if e := c.rest(); len(e.exits) != 0 || e.close != websocket.StatusGoingAway {
			t.Errorf("got exits %+v, close %d; want none, for the command goes on, and 1001", e.exits, e.close)
		}
	})
}

// TestOrders: what is wrong with a text frame is told, and ends nothing.
func TestOrders(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	c := x.attach(b, x.exec(b, `trap 'echo usr1' USR1; echo ready; while ! read a; do :; done; stty size`, `"tty":true`), "")
	c.until("ready\r\n")
	for order, want := range map[string]string{
		`{"type":"dance"}`:                `type \"dance\"`,
		`{"type":"signal","sig":4}`:       "signal 4",
		`{"type":"resize","cols":70000}`:  "cols",
		`{"type":"resize","colour":"no"}`: "colour",
		`nonsense`:                        "malformed JSON",
		`{"type":"signal","sig":"nine"}`:  "sig: got a JSON string",
	} {
		c.send(websocket.MessageText, order)
		if channel, got, err := c.frame(); err != nil || channel != 0 || !strings.Contains(got, `"type":"error"`) || !strings.Contains(got, want) {
			t.Errorf("%s: got %d %q, %v, want an error about %s", order, channel, got, err, want)
		}
	}
	c.send(websocket.MessageText, `{"type":"signal","sig":10}`)
	c.until("usr1\r\n")
	c.send(websocket.MessageText, `{"type":"resize","cols":132,"rows":50}`)
	c.send(websocket.MessageBinary, "\n")
	if e := c.exit(0); !strings.Contains(e.out, "50 132") {
		t.Errorf("size: got %q, want 50 132", e.out)
	}
}

// TestWholeCharacters: a frame never ends in the middle of a character, and
// what is none is not kept back.
func TestWholeCharacters(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	c := x.attach(b, x.exec(b, `read a; i=0; while [ $i -lt 3000 ]; do printf 'aü你🎉'; i=$((i+1)); done`), "")
	c.send(websocket.MessageBinary, "\n")
	all := ""
	for len(all) < 3000*10 {
		channel, p, err := c.frame()
		if err != nil || channel != rest.Stdout {
			t.Fatalf("got %d %q, %v", channel, p, err)
		}
		if !utf8.ValidString(p) {
			t.Fatalf("frame of %d bytes ends in a character: %q", len(p), p[len(p)-4:])
		}
		all += p
	}
	c.exit(0)
	c = x.attach(b, x.exec(b, `printf 'caf\351'; read a`), "")
	if got := c.until("\xe9"); got != "caf\xe9" {
		t.Errorf("a byte that is no character: got %q", got)
	}
}

func TestPartial(t *testing.T) {
	for p, want := range map[string]int{
		"": 0, "a": 0, "ü": 0, "\xc3": 1, "a\xc3": 1, "\xe4\xbd": 2, "\xf0\x9f\x8e": 3, "🎉": 0, "\xff": 0, "\x80\x80\x80\x80": 0,
		"\xf0": 1, "a\xf0\x9f": 2, "\xc3a": 0, "\xed\xa0": 0,
	} {
		if got := partial([]byte(p)); got != want {
			t.Errorf("partial(%q): got %d, want %d", p, got, want)
		}
	}
}

// TestAttachNeedsAnUpgrade: what a plain request gets is an envelope.
func TestAttachNeedsAnUpgrade(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "read a")
	a := x.do("GET", "/v1/boxes/"+b+"/executions/"+id+"/attach", "")
	if code, msg := a.fault(); a.status != 400 || code != "invalid_argument" || !strings.Contains(msg, "WebSocket") {
		t.Errorf("got %v", a)
	}
	a = x.do("GET", "/v1/boxes/"+b+"/attach", "")
	if code, _ := a.fault(); a.status != 409 || code != "invalid_state" {
		t.Errorf("main command of a box without one: got %v", a)
	}
	job := x.box(`"cmd":["sh","-c","echo main; sleep 1000"]`)
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+job+"/start", "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, x.http.URL+"/v1/boxes/"+job+"/attach", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("X-Boxlite-Execution-Id"); got != mainID {
		t.Errorf("execution id: got %q, want %q", got, mainID)
	}
	c := &socketClient{t, conn}
	c.until("main\n")
	want[any](x, 204, "POST", "/v1/boxes/"+job+"/executions/main/signal", `{"signal":9}`)
	c.exit(137)
}
