package restclient

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/rest"
)

const key = "a-key-0123456789"

// TestWhichServer: places that make no sense are refused, and so is a key that
// everybody on the way could read. No error has the key.
func TestWhichServer(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		bad  string // in the error; empty: good
	}{
		{"https", Config{URL: "https://boxes.example.com", Key: key}, ""},
		{"socket", Config{URL: "unix:///run/boxlite.sock", Key: key}, ""},
		{"loopback", Config{URL: "http://127.0.0.1:8100", Key: key}, ""},
		{"loopback of IPv6", Config{URL: "http://[::1]:8100/below", Key: key}, ""},
		{"its name", Config{URL: "http://localhost", Key: key}, ""},
		{"no key", Config{URL: "http://boxes.example.com"}, ""},
		{"in the clear", Config{URL: "http://boxes.example.com", Key: key}, "in the clear; use https"},
		{"in the clear, wanted", Config{URL: "http://boxes.example.com", Key: key, PlainKey: true}, ""},
		{"looks like loopback", Config{URL: "http://localhost.example.com", Key: key}, "in the clear"},
		{"key in it", Config{URL: "https://" + key + "@boxes.example.com"}, "has a user in it"},
		{"query", Config{URL: "https://boxes.example.com?key=" + key}, "more than a place"},
		{"no scheme", Config{URL: "boxes.example.com"}, "give http://"},
		{"no host", Config{URL: "http:///x"}, "give http://"},
		{"no path", Config{URL: "unix://"}, "give http://"},
		{"long path", Config{URL: "unix:///" + strings.Repeat("x", 107)}, "no socket can have more than 107"},
		{"longest path", Config{URL: "unix:///" + strings.Repeat("x", 106)}, ""},
		{"nothing", Config{}, "give http://"},
		{"no URL at all", Config{URL: "http://[" + key}, "give http://"},
		{"line end in the key", Config{URL: "https://boxes.example.com", Key: key + "\nX: y"}, "characters that none has"},
	} {
		_, err := New(tt.c)
		switch {
		case tt.bad == "" && err != nil:
			t.Errorf("%s: %v", tt.name, err)
		case tt.bad != "" && (err == nil || !strings.Contains(err.Error(), tt.bad)):
			t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.bad)
		case err != nil && strings.Contains(err.Error(), key):
			t.Errorf("%s: the key is in %q", tt.name, err)
		}
	}
}

// client returns one of a server that answers with h.
func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(Config{URL: s.URL, Key: key, PathPrefix: "team"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestRequest: what is asked arrives as it is, and names lead nowhere else.
func TestRequest(t *testing.T) {
	var got string
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprint(r.Method, " ", r.URL.EscapedPath(), "?", r.URL.RawQuery, " ", r.Header.Get("Authorization"), " ", string(body))
		fmt.Fprint(w, `{"execution_id":"x"}`)
	})
	var reply rest.Started
	err := c.JSON(t.Context(), Request{
		Method: http.MethodPost, Path: []string{"boxes", "../a/b", "..", "exec"}, Query: url.Values{"q": {"a b"}}, JSON: rest.Signal{Signal: 9},
	}, &reply)
	want := `POST /v1/team/boxes/..%2Fa%2Fb/%2E%2E/exec?q=a+b Bearer ` + key + ` {"signal":9}`
	if err != nil || got != want || reply.ExecutionID != "x" {
		t.Errorf("got %q, %+v, %v, want %q", got, reply, err, want)
	}
}

// TestHostileServer: whatever a server sends, the error says what is wrong, and
// what is kept of it is bounded.
func TestHostileServer(t *testing.T) {
	endless := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"an answer without end", func(w http.ResponseWriter, _ *http.Request) {
			for range maxReply>>20 + 2 {
				if _, err := io.WriteString(w, endless); err != nil {
					return
				}
			}
		}, "more than"},
		{"an error without end", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			for range 64 {
				if _, err := io.WriteString(w, endless); err != nil {
					return
				}
			}
		}, "500 Internal Server Error, without a reason"},
		{"an error that is none of ours", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "<html>", http.StatusBadGateway)
		}, "502 Bad Gateway, without a reason; is it boxlite serve?"},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, "makes no sense"},
		{"a way to elsewhere", func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "elsewhere.example.com" {
				t.Error("the key went elsewhere")
			}
			http.Redirect(w, r, "http://elsewhere.example.com/", http.StatusTemporaryRedirect)
		}, "307 Temporary Redirect"},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"a`)
		}, "does not answer"},
		{"headers without end", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-", i), endless[:10<<10])
			}
		}, "does not answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := client(t, tt.answer)
			err := c.JSON(t.Context(), Request{Method: http.MethodGet, Path: []string{"x"}}, &rest.Started{})
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > maxFault {
				t.Errorf("got %.300v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestWhoIsToBlame: the caller, the body and the server are told apart.
func TestWhoIsToBlame(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mine := errors.New("my reader broke")
	err := c.JSON(t.Context(), Request{Method: http.MethodPut, Path: []string{"x"}, Body: io.MultiReader(strings.NewReader("a"), failing{mine})}, nil)
	if !errors.Is(err, mine) {
		t.Errorf("a body that fails: got %v, want its error", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(mine)
	if err := c.JSON(ctx, Request{Method: http.MethodGet, Path: []string{"x"}}, nil); !errors.Is(err, mine) {
		t.Errorf("a context that has ended: got %v, want its cause", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	gone, err := New(Config{URL: "http://" + ln.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := gone.JSON(t.Context(), Request{Method: http.MethodGet, Path: []string{"x"}}, nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody there: got %v, want ErrUnreachable", err)
	}
	refused := client(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `{"error":{"message":"no","code":"invalid_state","cause":{"condition":"state","text":"no"}}}`)
	})
	e, ok := errors.AsType[*Error](refused.JSON(t.Context(), Request{Method: http.MethodGet, Path: []string{"x"}}, nil))
	if !ok || e.Status != 409 || e.Code != "invalid_state" || e.Cause.Condition != rest.State {
		t.Errorf("a refusal: got %+v", e)
	}
	if _, err := refused.Socket(t.Context(), Request{Path: []string{"x"}}); err == nil || err.Error() != "no" {
		t.Errorf("a socket refused: got %v, want the reason", err)
	}
	if _, err := refused.Upgrade(t.Context(), Request{Path: []string{"x"}}, rest.TunnelProtocol); err == nil || err.Error() != "no" {
		t.Errorf("an upgrade refused: got %v, want the reason", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestCertificates: a server is believed when a certificate that is trusted says
// so, and not otherwise.
func TestCertificates(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer s.Close()
	dir := t.TempDir()
	ca, none := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "none.pem")
	for file, text := range map[string][]byte{
		ca:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		none: []byte("nothing"),
	} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(file string) error {
		c, err := New(Config{URL: s.URL, Key: key, CAFile: file})
		if err != nil {
			return err
		}
		defer c.Close()
		return c.JSON(t.Context(), Request{Method: http.MethodGet, Path: []string{"x"}}, nil)
	}
	if err := ask(ca); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	if err := ask(""); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without: got %v, want an error about the certificate", err)
	}
	if err := ask(none); err == nil || !strings.Contains(err.Error(), "has no certificate") {
		t.Errorf("with another file: got %v", err)
	}
}
