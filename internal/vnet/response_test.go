package vnet

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestResponsesAreScrubbed promises that the value does not come back, however a
// response is written.
func TestResponsesAreScrubbed(t *testing.T) {
	pad := strings.Repeat("x", maxBody)
	zipped := func(s string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = io.WriteString(z, s)
		z.Close()
		return b.String()
	}
	stars := strings.Repeat("*", len(value))
	for _, tt := range []struct {
		name  string
		serve http.HandlerFunc
		want  string
		check func(t *testing.T, res *http.Response)
	}{
		{"of known length", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "a ", value, " b")
		}, "a " + placeholder + " b", nil},
		{"in JSON", func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"k": value})
		}, `{"k":"` + placeholder + `"}` + "\n", nil},
		{"in pieces", func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range value {
				fmt.Fprint(w, string(c))
				_ = http.NewResponseController(w).Flush()
			}
		}, "", func(*testing.T, *http.Response) {}},
		{"long, of known length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(len(pad)+len(value)))
			fmt.Fprint(w, pad, value)
		}, pad + stars, func(t *testing.T, res *http.Response) {
			if want := int64(len(pad) + len(value)); res.ContentLength != want {
				t.Errorf("length: got %d, want %d", res.ContentLength, want)
			}
		}},
		{"part of a file", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, value)
		}, stars, nil},
		{"zipped although not asked for", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			fmt.Fprint(w, zipped("a "+value))
		}, "a " + placeholder, func(t *testing.T, res *http.Response) {
			if got := res.Header.Get("Content-Encoding"); got != "" {
				t.Errorf("Content-Encoding: got %q, want none", got)
			}
		}},
		{"in headers and trailers", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/?key="+value)
			w.Header().Set("Trailer", "X-After")
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, "body")
			w.Header().Set("X-After", value)
			w.Header().Set("X-Asked-For", r.Header.Get("Accept-Encoding"))
		}, "body", func(t *testing.T, res *http.Response) {
			if res.Header.Get("Location") != "/?key="+placeholder || res.Trailer.Get("X-After") != placeholder {
				t.Errorf("got %q and %q", res.Header, res.Trailer)
			}
		}},
		{"early hints", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", value)
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			fmt.Fprint(w, "body")
		}, "body", nil},
		{"no body", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Value", value)
			w.WriteHeader(http.StatusNoContent)
		}, "", func(t *testing.T, res *http.Response) {
			if got := res.Header.Get("X-Value"); got != placeholder {
				t.Errorf("header: got %q", got)
			}
		}},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %t", tt.name, h2), func(t *testing.T) {
				g := newSecretTest(t, tt.serve)
				c := g.client(nil)
				c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
				res, body := get(t, c, request(t, http.MethodGet, "https://api.test/", ""))
				if strings.Contains(body, value) || tt.want != "" && body != tt.want {
					t.Errorf("got %.200q, want %.200q", body, tt.want)
				}
				if tt.check != nil {
					tt.check(t, res)
				}
			})
		}
	}
}

// TestUnreadableResponse promises that what cannot be scrubbed is not passed on.
func TestUnreadableResponse(t *testing.T) {
	g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("Accept-Encoding: got %q, want identity", got)
		}
		w.Header().Set("Content-Encoding", "br")
		fmt.Fprint(w, "who knows")
	})
	r := request(t, http.MethodGet, "https://api.test/", "")
	r.Header.Set("Accept-Encoding", "br")
	res, body := get(t, g.client(nil), r)
	if res.StatusCode != http.StatusBadGateway || !strings.Contains(body, "compressed (br)") {
		t.Errorf("got %d %q, want 502 that says why", res.StatusCode, body)
	}
}

// TestBasicIsScrubbed promises that credentials into which a value was put do not
// come back either.
func TestBasicIsScrubbed(t *testing.T) {
	var user, password string
	g := newSecretTest(t, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		echo(w, r)
	})
	r := request(t, http.MethodGet, "https://api.test/", "")
	r.SetBasicAuth("me", placeholder)
	sent := r.Header.Get("Authorization")
	res, _ := get(t, g.client(nil), r)
	if user != "me" || password != value || res.Header.Get("X-Got-Authorization") != sent {
		t.Errorf("the server got %q, %q, the box %q", user, password, res.Header.Get("X-Got-Authorization"))
	}
}

// TestWebsocketMessagesAreScrubbed promises the same for a value in a message.
func TestWebsocketMessagesAreScrubbed(t *testing.T) {
	res := &http.Response{StatusCode: http.StatusSwitchingProtocols, Header: http.Header{}}
	near, far := net.Pipe()
	res.Body = near
	s, err := checkSecret(key("api.test"))
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange{secrets: []*secret{&s}}
	if err := x.scrub(res); err != nil {
		t.Fatal(err)
	}
	frame := "\x81\x15<" + value + ">"
	go func() { _, _ = io.WriteString(far, frame) }()
	b := make([]byte, len(frame))
	if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != "\x81\x15<"+strings.Repeat("*", len(value))+">" {
		t.Errorf("got %q, %v", b, err)
	}
}

// zeros is a body of n bytes.
func zeros(n int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		b := make([]byte, 64<<10)
		for left := n; left > 0; left -= int64(len(b)) {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}
}

// TestLongResponseTakesNoMemory promises that a response of a gigabyte streams.
func TestLongResponseTakesNoMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("needs to copy a gigabyte; run without -short")
	}
	const size = 1 << 30
	g := newSecretTest(t, zeros(size))
	res, err := g.client(nil).Do(request(t, http.MethodGet, "https://api.test/", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var most uint64
	b := make([]byte, 1<<20)
	for total := int64(0); total < size; {
		n, err := res.Body.Read(b)
		if total += int64(n); err != nil && total < size {
			t.Fatalf("after %d bytes: %v", total, err)
		}
		if total%(64<<20) < int64(n) {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
	if most > 32<<20 { // windows of HTTP/2 and buffers, of client, proxy and server
		t.Errorf("memory: got %d MiB", most>>20)
	}
}

// TestSlowReaderOfResponse promises that a server is slowed down to what a client takes,
// and that no more than windows and buffers have room for is held between them.
func TestSlowReaderOfResponse(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		sent := make(chan int)
		g := newSecretTest(t, func(w http.ResponseWriter, _ *http.Request) {
			c := http.NewResponseController(w)
			b, total := make([]byte, 64<<10), 0
			for err := error(nil); err == nil && total < 1<<30; total += len(b) {
				// How long it takes to find that nothing goes on any more.
				_ = c.SetWriteDeadline(time.Now().Add(2 * time.Second))
				_, err = w.Write(b)
			}
			sent <- total
		})
		c := g.client(nil)
		c.Transport.(*http.Transport).ForceAttemptHTTP2 = h2
		res, err := c.Do(request(t, http.MethodGet, "https://api.test/", ""))
		if err != nil {
			t.Fatal(err)
		}
		// Windows of 4 MiB at the client and at the gate, and what the sockets
		// of the host hold, which grow to 6 MiB and 4 MiB.
		if n := <-sent; n > 64<<20 {
			t.Errorf("HTTP/2 %t: the server sent %d MiB to a client that does not read", h2, n>>20)
		}
		res.Body.Close()
	}
}
