package restapi

import (
	"bytes"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

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
