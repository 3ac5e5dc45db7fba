package restapi

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

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
