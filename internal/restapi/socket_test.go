package restapi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// handshake asks for a WebSocket.
const handshake = "GET / HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// frame is one of a client: masked, with a mask that changes nothing.
func frame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// strange is what a client may send that is no WebSocket, or a strange one.
var strange = map[string][]byte{
	"input and its end":     append(frame(0x82, "input"), frame(0x81, `{"type":"stdin_eof"}`)...),
	"input after its end":   append(frame(0x81, `{"type":"stdin_eof"}`), frame(0x82, "late")...),
	"resize":                frame(0x81, `{"type":"resize","cols":1,"rows":1}`),
	"resize to nothing":     frame(0x81, `{"type":"resize","cols":0,"rows":1}`),
	"signal":                frame(0x81, `{"type":"signal","sig":15}`),
	"kill":                  frame(0x81, `{"type":"signal","sig":9}`),
	"no such signal":        frame(0x81, `{"type":"signal","sig":-1}`),
	"in pieces":             append(frame(0x01, `{"type":`), frame(0x80, `"signal","sig":15}`)...),
	"a ping between pieces": bytes.Join([][]byte{frame(0x02, "in"), frame(0x89, "ping"), frame(0x80, "put")}, nil),
	"a piece of nothing":    frame(0x80, "input"),
	"two beginnings":        append(frame(0x02, "in"), frame(0x02, "put")...),
	"no mask":               {0x82, 5, 'i', 'n', 'p', 'u', 't'},
	"another mask":          {0x82, 0x82, 1, 2, 3, 4, 'i' ^ 1, 'n' ^ 2},
	"reserved bits":         frame(0xf2, "input"),
	"reserved opcode":       frame(0x83, "input"),
	"ping":                  frame(0x89, "ping"),
	"long ping":             frame(0x89, strings.Repeat("p", 126)),
	"ping in pieces":        frame(0x09, "ping"),
	"many pings":            bytes.Repeat(frame(0x89, "ping"), 200),
	"pong unasked":          frame(0x8a, "pong"),
	"close":                 frame(0x88, "\x03\xe8"),
	"close without a code":  frame(0x88, ""),
	"close with half a one": frame(0x88, "\x03"),
	"close that none sends": frame(0x88, "\x03\xed"),
	"close, not UTF-8":      frame(0x88, "\x03\xe8\xff"),
	"after close":           append(frame(0x88, "\x03\xe8"), frame(0x82, "late")...),
	"too long":              {0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	"negative":              {0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
	"text, not UTF-8":       frame(0x81, "\xff\xfe"),
	"text, no JSON":         frame(0x81, "nonsense"),
	"text, of depth":        frame(0x81, strings.Repeat("[", 20000)),
	"cut in a head":         {0x82},
	"cut in a payload":      frame(0x82, "input")[:8],
	"HTTP":                  []byte("GET / HTTP/1.1\r\n\r\n"),
	"nothing":               {},
}

// messages is what a client has sent in order before it broke a rule: the
// judge of what a server makes of it. A message of which some frames came
// before the end of the connection counts, as the library has it. ok is false
// where it is not to say.
func messages(p []byte) (binary []string, texts int, ok bool) {
	var kind byte
	var message []byte
	for {
		f, rest := oneFrame(p)
		if f == nil {
			if kind == 2 && len(p) == 0 {
				binary = append(binary, string(message))
			}
			if kind == 1 {
				texts++
			}
			return binary, texts, true
		}
		p = rest
		switch f.op {
		case 0x8:
			return binary, texts, true
		case 0x9, 0xa:
			if !f.fin || len(f.payload) > 125 {
				return binary, texts, true
			}
			continue
		case 0:
			if kind == 0 {
				return binary, texts, true
			}
		case 1, 2:
			if kind != 0 {
				return binary, texts, true
			}
			kind = f.op
		default:
			return binary, texts, true
		}
		message = append(message, f.payload...)
		if len(message) >= maxMessage {
			return nil, 0, false
		}
		if !f.fin {
			continue
		}
		if kind == 2 {
			binary = append(binary, string(message))
		} else {
			texts++
		}
		kind, message = 0, nil
	}
}

type clientFrame struct {
	op      byte
	fin     bool
	payload []byte
}

// oneFrame takes a frame off p; nil is one that is not whole or not allowed.
func oneFrame(p []byte) (*clientFrame, []byte) {
	if len(p) < 2 || p[0]&0x70 != 0 || p[1]&0x80 == 0 {
		return nil, nil
	}
	f := &clientFrame{op: p[0] & 0xf, fin: p[0]&0x80 != 0}
	n, p := uint64(p[1]&0x7f), p[2:]
	switch {
	case n == 126 && len(p) >= 2:
		n, p = uint64(binary.BigEndian.Uint16(p)), p[2:]
	case n == 127 && len(p) >= 8:
		n, p = binary.BigEndian.Uint64(p), p[8:]
	case n >= 126:
		return nil, nil
	}
	if len(p) < 4 || n > uint64(len(p)-4) {
		return nil, nil
	}
	mask := p[:4]
	p = p[4:]
	f.payload = bytes.Clone(p[:n])
	for i := range f.payload {
		f.payload[i] ^= mask[i%4]
	}
	return f, p[n:]
}

// FuzzFrames sends anything to a socket, from a client that listens or does
// not, may write or may not: the socket ends when the client does, orders are
// carried out only if they make sense, and input is that of the messages that
// came whole.
func FuzzFrames(f *testing.F) {
	for _, frames := range strange {
		for i := range 4 {
			f.Add(frames, i&1 != 0, i&2 != 0)
		}
	}
	f.Fuzz(func(t *testing.T, frames []byte, reads, deaf bool) {
		inHall(t, wish{write: !reads}, func(h *hall) { sendFrames(h, frames, deaf) })
	})
}

func sendFrames(h *hall, frames []byte, deaf bool) {
	t := h.t
	h.x.parked = h.f
	conn := h.dial()
	answers := make(chan struct{})
	go func() {
		defer close(answers)
		head := make([]byte, 12)
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 101" {
			t.Errorf("upgrade: got %q, %v", head, err)
		}
		if !deaf {
			_, _ = io.Copy(io.Discard, conn) // ends with the connection
			return
		}
		for line := ""; line != "\r\n\r\n"; { // to the end of the head
			b := make([]byte, 1)
			if _, err := conn.Read(b); err != nil {
				return
			}
			line = (line + string(b))[max(0, len(line)-3):]
		}
	}()
	_, _ = conn.Write(append([]byte(handshake), frames...)) // the server may have had enough
	synctest.Wait()
	conn.Close()
	<-answers
	time.Sleep(time.Minute) // by then the server has given up waiting for anything
	synctest.Wait()
	if n := len(h.x.open()); n != 0 {
		t.Errorf("a minute after its client %d sockets are open", n)
	}
	input, _, orders := h.cmd.got()
	if !h.w.write && (input != "" || len(orders) > 0) {
		t.Fatalf("who may only read has written %q and ordered %q", input, orders)
	}
	sent, texts, known := messages(frames)
	if !known || !h.w.write {
		return
	}
	if len(orders) > texts {
		t.Errorf("%d orders of %d messages: %q", len(orders), texts, orders)
	}
	for _, o := range orders {
		if o == "resize to nothing" || strings.HasPrefix(o, "signal signal") {
			t.Errorf("order %q was carried out", o)
		}
	}
	if all := strings.Join(sent, ""); texts == 0 && !deaf && input != all {
		t.Errorf("input: got %q, want %q", input, all)
	} else if !strings.HasPrefix(all, input) {
		t.Errorf("input: got %q, want the beginning of %q", input, all)
	}
}

// TestUpgrade: what does not ask for a WebSocket in order gets none, and keeps
// no place.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][2]string{
		"another version": {"Version: 13", "Version: 12"},
		"no key":          {"Sec-WebSocket-Key", "X-Key"},
		"a short key":     {"dGhlIHNhbXBsZSBub25jZQ==", "dGhl"},
		"another upgrade": {"Upgrade: websocket", "Upgrade: h2c"},
		"no upgrade":      {"Connection: Upgrade", "Connection: close"},
		"another method":  {"GET /", "POST /"},
		"HTTP/1.0":        {"HTTP/1.1", "HTTP/1.0"},
		"another origin":  {"Host: memory", "Host: memory\r\nOrigin: http://elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			inHall(t, wish{write: true}, func(h *hall) {
				conn := h.dial()
				defer conn.Close()
				go func() { _, _ = io.WriteString(conn, strings.Replace(handshake, change[0], change[1], 1)) }()
				head := make([]byte, 12)
				if _, err := io.ReadFull(conn, head); err != nil || head[9] != '4' {
					t.Errorf("got %q, %v, want a refusal", head, err)
				}
				conn.Close()
				synctest.Wait()
				if h.x.writer != nil {
					t.Error("it keeps the place of the one that writes")
				}
			})
		})
	}
}

// TestVanishedWriter: a client that has sent more than its command reads, and
// is gone, is found out by itself, and at once when another wants its place.
func TestVanishedWriter(t *testing.T) {
	t.Parallel()
	flood := func(h *hall) net.Conn {
		h.cmd.listen(false)
		conn := h.dial()
		go func() {
			_, _ = io.WriteString(conn, handshake)
			for {
				if _, err := conn.Write(frame(0x82, strings.Repeat("x", 64<<10))); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		synctest.Wait()
		if k := h.x.open(); len(k) != 1 || !k[0].full() {
			h.t.Fatal("the client is still read from, and its command reads nothing")
		}
		return conn
	}
	for _, tt := range []struct {
		name string
		f    func(h *hall)
	}{
		{"by itself", func(h *hall) {
			conn := flood(h)
			time.Sleep(time.Hour) // while it lives it keeps its place
			if len(h.x.open()) != 1 {
				h.t.Fatal("a client whose command does not read was cut off")
			}
			conn.Close()
			time.Sleep(2 * pingEvery)
			synctest.Wait()
			if len(h.x.open()) != 0 || h.x.writer != nil {
				h.t.Error("half a minute after its client's end the socket has its place")
			}
		}},
		{"another is waiting", func(h *hall) {
			flood(h).Close()
			if _, _, err := h.attach(); err != nil {
				h.t.Errorf("the next: %v", err)
			}
		}},
		{"while it is written to", func(h *hall) {
			c := h.first()
			go func() { _, _ = (&outlet{h.f, rest.Stdout}).Write([]byte("output")) }()
			synctest.Wait() // it is not taken
			time.AfterFunc(time.Second, func() { _ = c.CloseNow() })
			if _, _, err := h.attach(); err != nil {
				h.t.Errorf("the next: %v", err)
			}
		}},
		{"it lives", func(h *hall) {
			conn := flood(h)
			defer conn.Close()
			if _, resp, err := h.attach(); err == nil || resp.StatusCode != http.StatusConflict {
				h.t.Errorf("the next: got %v, %v, want 409", resp, err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { inHall(t, wish{write: true}, tt.f) })
	}
}

// TestSuccessorHasTheCommand: once another client has its place, the stream of
// one that is gone holds up nothing.
func TestSuccessorHasTheCommand(t *testing.T) {
	t.Parallel()
	inHall(t, wish{write: true}, func(h *hall) {
		dead := h.dial() // reads nothing, so it answers no ping
		go func() { _, _ = io.WriteString(dead, handshake) }()
		_, _ = io.ReadFull(dead, make([]byte, 200)) // the answer is longer than that or ends by error: taken, in any case
		synctest.Wait()
		next, _, err := h.attach()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.x.mu.Lock()
		parked := h.x.parked
		h.x.mu.Unlock()
		if parked != nil {
			t.Error("the stream of the first waits for it to come back, and the command with it")
		}
		next.CloseNow()
	})
}

// TestInputOutlivesItsClient: what a client sent before it went is given to
// the command whenever that reads, and its end.
func TestInputOutlivesItsClient(t *testing.T) {
	t.Parallel()
	inHall(t, wish{write: true}, func(h *hall) {
		h.cmd.listen(false)
		c, _, err := h.attach()
		if err != nil {
			t.Fatal(err)
		}
		const text = "what was sent"
		for _, err := range []error{
			c.Write(h.ctx, websocket.MessageBinary, []byte(text)),
			c.Write(h.ctx, websocket.MessageText, []byte(`{"type":"stdin_eof"}`)),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		c.CloseNow()
		time.Sleep(time.Hour)
		h.cmd.listen(true)
		synctest.Wait()
		if input, eof, _ := h.cmd.got(); input != text || !eof {
			t.Errorf("got %q, end %v", input, eof)
		}
		if !h.x.idle() {
			t.Error("the stream is kept though nothing waits for it")
		}
	})
}

// TestInputIsBounded: clients that come, send, and go leave no more behind
// than one of them may.
func TestInputIsBounded(t *testing.T) {
	t.Parallel()
	again := wish{write: true, from: boxlite.AttachOptions{StdoutFrom: 1}} // so that each has a stream of its own
	inHall(t, again, func(h *hall) {
		h.cmd.listen(false)
		for range 20 {
			c, _, err := h.attach()
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Write(h.ctx, websocket.MessageBinary, make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			c.CloseNow()
			synctest.Wait()
		}
		h.x.mu.Lock()
		defer h.x.mu.Unlock()
		if h.x.parked == nil || h.x.retired == nil {
			t.Fatal("no stream is left, though input waits")
		}
		if n := len(h.x.parked.in.buf) + h.x.parked.in.moving + len(h.x.retired.in.buf) + h.x.retired.in.moving; n > 2*(100<<10) {
			t.Errorf("%d bytes wait after all have gone, want those of two", n)
		}
	})
}

// TestPing: a silent client that answers keeps its socket, one that does not
// loses it in 45 s, and one that takes output slowly is left alone.
func TestPing(t *testing.T) {
	t.Parallel()
	t.Run("answers", func(t *testing.T) {
		inHall(t, wish{}, func(h *hall) {
			c, _, err := h.attach()
			if err != nil {
				t.Fatal(err)
			}
			c.CloseRead(h.ctx)
			time.Sleep(time.Hour)
			if len(h.x.open()) != 1 {
				t.Error("a client that answers was cut off")
			}
			c.CloseNow()
		})
	})
	t.Run("does not", func(t *testing.T) {
		inHall(t, wish{}, func(h *hall) {
			if _, _, err := h.attach(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pingEvery + pingTimeout + time.Second)
			synctest.Wait()
			if len(h.x.open()) != 0 {
				t.Error("a client that answers nothing has its socket")
			}
		})
	})
	t.Run("slow", func(t *testing.T) {
		inHall(t, wish{write: true}, func(h *hall) {
			c := h.first()
			go func() {
				out := &outlet{h.f, rest.Stdout}
				for range 20 {
					_, _ = out.Write([]byte("output"))
				}
				h.exits(h.f, 0)
			}()
			for range 20 {
				time.Sleep(sendTimeout - time.Second) // longer than a ping may take to be sent
				if _, p, err := c.Read(h.ctx); err != nil || string(p) != "\x01output" {
					t.Fatalf("got %q, %v", p, err)
				}
			}
			if _, p, err := c.Read(h.ctx); err != nil || !strings.Contains(string(p), `"exit_code":0`) {
				t.Errorf("got %q, %v, want the exit", p, err)
			}
			c.CloseNow()
		})
	})
}

// lossy decodes as clients do: each run of bytes that begins a character and
// does not end it is one replacement.
func lossy(p []byte) string {
	var out []rune
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			for n = min(utf8.UTFMax-1, len(p)); n > 1 && utf8.FullRune(p[:n]); n-- {
			}
		}
		out = append(out, r)
		p = p[n:]
	}
	return string(out)
}

// FuzzSplit: however output comes in pieces, text or not, a client that
// decodes frame by frame reads the same as one that has it all.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{
		"", "plain", "aü你🎉", "caf\xe9 latin", "\xff\xfeu\x00t\x00f\x00", "\xed\xa0\x80\xed\xb0\x80 surrogates", "\xc0\x80 overlong",
		"\x82\xa0\x82\xa2 Shift-JIS", "\xc4\xe3\xba\xc3 GBK", "\xf0\x9f\x8e", "\xf4\x90\x80\x80", "\x80\x80\x80\x80", "\xe4\xbd\xe4\xbd\xa0", "\xf8\x88\x80\x80\x80",
		"\xf0\x9f\xe2\x82\xac", "\xe2\x82\xf0\x9f\x8e\x89",
	} {
		f.Add([]byte(s), uint64(0x9249249249249249))
		f.Add([]byte(s), ^uint64(0))
		f.Add([]byte(s), uint64(0))
	}
	f.Fuzz(func(t *testing.T, text []byte, cuts uint64) {
		inHall(t, wish{write: true}, func(h *hall) {
			c := h.first()
			c.SetReadLimit(1 << 20)
			go writeCut(h, text, cuts)
			var raw []byte
			decoded := ""
			for {
				kind, p, err := c.Read(h.ctx)
				if err != nil {
					break
				}
				if kind == websocket.MessageBinary {
					raw, decoded = append(raw, p[1:]...), decoded+lossy(p[1:])
				}
			}
			if !bytes.Equal(raw, text) {
				t.Errorf("bytes: got %q, want %q", raw, text)
			}
			if want := lossy(text); decoded != want {
				t.Errorf("frame by frame: got %q, want %q", decoded, want)
			}
		})
	})
}

// writeCut writes text in pieces, cut where the bits of cuts say so.
func writeCut(h *hall, text []byte, cuts uint64) {
	out := &outlet{h.f, rest.Stdout}
	from := 0
	for i := range text {
		if cuts>>(i%64)&1 != 0 {
			_, _ = out.Write(text[from : i+1])
			from = i + 1
		}
	}
	_, _ = out.Write(text[from:])
	h.exits(h.f, 0)
}

// TestGapEndsCharacters: a character that began before missing output is not
// ended by what comes after it.
func TestGapEndsCharacters(t *testing.T) {
	t.Parallel()
	inHall(t, wish{write: true}, func(h *hall) {
		c := h.first()
		go func() {
			out := &outlet{h.f, rest.Stderr}
			_, _ = out.Write([]byte("a\xc3"))
			h.f.gap(true, 2, 7)
			_, _ = out.Write([]byte("\xbcb"))
			h.exits(h.f, 0)
		}()
		var got []string
		for {
			_, p, err := c.Read(h.ctx)
			if err != nil {
				if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
					t.Errorf("end: %v", err)
				}
				break
			}
			got = append(got, string(p))
		}
		want := []string{"\x02a", "\x02\xc3", `{"type":"gap","stream":"stderr","from":2,"to":7}`, "\x02\xbcb", `{"type":"exit","exit_code":0,"cause":"exited"}`}
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
