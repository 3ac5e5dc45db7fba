package restapi

import (
	"bytes"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
