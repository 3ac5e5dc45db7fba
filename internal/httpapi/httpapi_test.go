package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

const (
	fullKey = "full-key-0123456789"
	readKey = "read-key-0123456789"
)

func keys(t *testing.T) *httpapi.Keys {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	text := "# who may do what\nfull " + fullKey + "\nreader " + readKey + " box:read,me:read # looks only\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	k := &httpapi.Keys{}
	if err := k.Load("", file); err != nil {
		t.Fatal(err)
	}
	return k
}

// input is what the test route takes.
type input struct {
	Name  string            `json:"name"`
	Count int               `json:"count"`
	Env   map[string]string `json:"env"`
	Inner struct {
		On bool `json:"on"`
	} `json:"inner"`
}

func routes() []httpapi.Route {
	return []httpapi.Route{
		{Pattern: "GET /open", Open: true, Handle: func(w http.ResponseWriter, _ *http.Request) error {
			httpapi.WriteJSON(w, 200, "open")
			return nil
		}},
		{Pattern: "GET /read/{id}", Scope: "box:read", Handle: func(w http.ResponseWriter, r *http.Request) error {
			httpapi.WriteJSON(w, 200, httpapi.Who(r.Context()).Name)
			return nil
		}},
		{Pattern: "POST /write", Scope: "box:write", Handle: func(w http.ResponseWriter, r *http.Request) error {
			var in input
			if err := httpapi.Decode(w, r, &in); err != nil {
				return err
			}
			httpapi.WriteJSON(w, 200, in)
			return nil
		}},
		{Pattern: "GET /panic", Scope: "box:read", Handle: func(http.ResponseWriter, *http.Request) error { panic("bug") }},
		{Pattern: "GET /upgrade", Scope: "box:read", Handle: func(w http.ResponseWriter, _ *http.Request) error {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
			return err
		}},
		{Pattern: "GET /cut", Scope: "box:read", Handle: func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
	}
}

type answer struct {
	status int
	header http.Header
	body   string
	err    fault
}

type fault struct {
	Message, Type, Code string
	RequestID           string `json:"request_id"`
}

func do(t *testing.T, h http.Handler, r *http.Request) answer {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	var e struct{ Error fault }
	if json.Unmarshal(w.Body.Bytes(), &e) == nil {
		a.err = e.Error
	}
	return a
}

func req(method, path, key, body string) *http.Request {
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	return r
}

func TestKeysAndScopes(t *testing.T) {
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: keys(t)})
	for _, tt := range []struct {
		name, method, path, key string
		status                  int
		code                    string
	}{
		{"open without a key", "GET", "/open", "", 200, ""},
		{"open with a wrong key", "GET", "/open", "wrong", 200, ""},
		{"no key", "GET", "/read/x", "", 401, "unauthenticated"},
		{"wrong key", "GET", "/read/x", "full-key-0123456788", 401, "unauthenticated"},
		{"beginning of a key", "GET", "/read/x", fullKey[:18], 401, "unauthenticated"},
		{"key and more", "GET", "/read/x", fullKey + "0", 401, "unauthenticated"},
		{"name instead of a key", "GET", "/read/x", "full", 401, "unauthenticated"},
		{"right key", "GET", "/read/x", fullKey, 200, ""},
		{"scope enough", "GET", "/read/x", readKey, 200, ""},
		{"scope missing", "POST", "/write", readKey, 403, "permission_denied"},
		{"unknown path without a key", "GET", "/nowhere", "", 401, "unauthenticated"},
		{"below an open path", "GET", "/open/x", "", 401, "unauthenticated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := do(t, h, req(tt.method, tt.path, tt.key, "{}"))
			if a.status != tt.status || a.err.Code != tt.code {
				t.Errorf("got %d %q, want %d %q", a.status, a.err.Code, tt.status, tt.code)
			}
			if a.status == 401 && a.header.Get("WWW-Authenticate") == "" {
				t.Error("401 without WWW-Authenticate")
			}
		})
	}
}

// TestReload: keys change without a restart, and a bad file changes nothing.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	k := &httpapi.Keys{}
	write := func(text string, mode os.FileMode) error {
		os.Remove(file)
		if err := os.WriteFile(file, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return k.Load("", file)
	}
	if err := write("a key-of-a-0123456789\n", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, text, want string
		mode             os.FileMode
	}{
		{"readable by others", "a key-of-a-0123456789\n", "chmod 600", 0o644},
		{"short key", "a short\n", "too short", 0o600},
		{"unknown scope", "a key-of-a-0123456789 box:all\n", `no scope "box:all"`, 0o600},
		{"too many fields", "a key-of-a-0123456789 box:read extra\n", "line 1", 0o600},
		{"name twice", "a key-of-a-0123456789\na key-of-b-0123456789\n", "used twice", 0o600},
		{"key twice", "a key-of-a-0123456789 box:read\nb key-of-a-0123456789\n", `"a" and "b" have the same key`, 0o600},
		{"cut in a key", strings.Repeat("# comment\n", 1<<17) + "a key-of-a-0123456789-and-more\n", "at most 1048576", 0o600},
		{"long line", "a " + strings.Repeat("x", 1<<17) + "\n", "too long", 0o600},
		{"empty", "# nothing\n", "0 keys", 0o600},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := write(tt.text, tt.mode); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if who, ok := k.Find("key-of-a-0123456789"); !ok || who.Name != "a" {
				t.Error("the keys of before are gone")
			}
		})
	}
	if err := write("b key-of-b-0123456789\n", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := k.Find("key-of-a-0123456789"); ok {
		t.Error("a key that was taken away is still good")
	}
	if _, ok := k.Find("key-of-b-0123456789"); !ok {
		t.Error("a new key is not known")
	}
}

func TestBadInput(t *testing.T) {
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: keys(t)})
	for _, tt := range []struct{ name, body, want string }{
		{"unknown field", `{"colour":"x"}`, `unknown field "colour"`},
		{"wrong type", `{"count":"x"}`, "count: got a JSON string, want a whole number in range"},
		{"too large a number", `{"count":1e30}`, "count: got a JSON number 1e30, want a whole number in range"},
		{"wrong type deep down", `{"inner":{"on":1}}`, "inner.on: got a JSON number, want true or false"},
		{"wrong type in a map", `{"env":{"A":1}}`, "got a JSON number, want a string"},
		{"array", `[]`, "the body: got a JSON array, want an object"},
		{"syntax", `{"name":}`, "malformed JSON at byte 9"},
		{"too short", `{"name":`, "malformed JSON: it ends too early"},
		{"empty", ``, "malformed JSON: it ends too early"},
		{"more", `{} {}`, "more after its JSON value"},
		{"nested too deep", strings.Repeat(`{"env":`, 20000), "malformed JSON"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := do(t, h, req("POST", "/write", fullKey, tt.body))
			if a.status != 400 || a.err.Code != "invalid_argument" || !strings.Contains(a.err.Message, tt.want) {
				t.Errorf("got %d %s %q, want 400 invalid_argument %q", a.status, a.err.Code, a.err.Message, tt.want)
			}
			if a.err.RequestID == "" || a.err.RequestID != a.header.Get("X-Request-Id") {
				t.Errorf("request id %q in the body, %q in the header", a.err.RequestID, a.header.Get("X-Request-Id"))
			}
		})
	}
	a := do(t, h, req("POST", "/write", fullKey, `{"name":"`+strings.Repeat("x", httpapi.MaxJSON)+`"}`))
	if a.status != 413 || a.err.Code != "payload_too_large" {
		t.Errorf("huge body: got %d %s, want 413", a.status, a.err.Code)
	}
}

func TestRoutingErrors(t *testing.T) {
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: keys(t)})
	if a := do(t, h, req("GET", "/nowhere", fullKey, "")); a.status != 404 || a.err.Code != "not_found" {
		t.Errorf("unknown path: got %d %s", a.status, a.err.Code)
	}
	a := do(t, h, req("DELETE", "/write", fullKey, ""))
	if a.status != 405 || a.header.Get("Allow") != "POST" || a.err.Code == "" {
		t.Errorf("wrong method: got %d, Allow %q, %s", a.status, a.header.Get("Allow"), a.err.Code)
	}
}

// TestForeignPages: a web page must not reach a server on this machine.
func TestForeignPages(t *testing.T) {
	open := httpapi.Handler(httpapi.Config{Routes: routes()})
	for _, tt := range []struct {
		name, host, origin, site string
		status                   int
	}{
		{"this machine", "localhost:8100", "", "", 200},
		{"its address", "127.0.0.1:8100", "", "", 200},
		{"its address, version 6", "[::1]:8100", "", "", 200},
		{"a name that was made to resolve here", "evil.example:8100", "", "", 421},
		{"a page of another site", "localhost:8100", "http://evil.example", "", 403},
		{"a browser that says so", "localhost:8100", "", "cross-site", 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := req("POST", "/write", "", "{}")
			r.Host = tt.host
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			if tt.site != "" {
				r.Header.Set("Sec-Fetch-Site", tt.site)
			}
			if a := do(t, open, r); a.status != tt.status {
				t.Errorf("got %d, want %d: %s", a.status, tt.status, a.body)
			}
		})
	}
}

// TestAccessLog: one line a request, with its facts and without secrets.
func TestAccessLog(t *testing.T) {
	var log bytes.Buffer
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: keys(t), Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	r := req("POST", "/write?path=/secret-query", fullKey, `{"name":"secret-body"}`)
	r.Header.Set("X-Request-Id", "client-chose-this")
	do(t, h, r)
	for _, want := range []string{`"method":"POST"`, `"path":"/write"`, `"status":200`, `"who":"full"`, `"request":"client-chose-this"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, &log)
		}
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), fullKey) {
		t.Errorf("the log tells secrets: %s", &log)
	}
	r = req("GET", "/open", "", "")
	r.Header.Set("X-Request-Id", "bad id\nwith a line")
	if id := do(t, h, r).header.Get("X-Request-Id"); strings.ContainsAny(id, " \n") || id == "" {
		t.Errorf("request id: got %q, want one of ours", id)
	}
}

// TestUpgradeIsLogged: a connection that becomes another protocol is logged and
// counted as that, also when the handler writes the answer itself.
func TestUpgradeIsLogged(t *testing.T) {
	var log bytes.Buffer
	status := make(chan int, 1)
	srv := httptest.NewServer(httpapi.Handler(httpapi.Config{
		Routes: routes(), Logger: slog.New(slog.NewJSONHandler(&log, nil)),
		Observe: func(_ string, s int, _ time.Duration) { status <- s },
	}))
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/upgrade")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := <-status; got != 101 || !strings.Contains(log.String(), `"status":101`) {
		t.Errorf("got %d, logged %s, want 101", got, &log)
	}
}

func TestPanicAndCut(t *testing.T) {
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: keys(t)})
	if a := do(t, h, req("GET", "/panic", fullKey, "")); a.status != 500 || a.err.Code != "internal" || strings.Contains(a.body, "bug\"") {
		t.Errorf("panic: got %d %s", a.status, a.body)
	}
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/cut", nil)
	r.Header.Set("Authorization", "Bearer "+fullKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an answer that broke off: got %v, want ErrUnexpectedEOF", err)
	}
}

// TestErrorTable: the conditions of the Go API have the codes BoxLite's
// clients know, and messages without the prefix that those add.
func TestErrorTable(t *testing.T) {
	wrap := func(err error) error {
		return &boxlite.Error{Op: "create", Name: "x", Err: fmt.Errorf("%w: because", err)}
	}
	for _, tt := range []struct {
		err    error
		status int
		code   string
		msg    string
	}{
		{wrap(boxlite.ErrInvalid), 400, "invalid_argument", `create "x": because`},
		{wrap(boxlite.ErrUnsupported), 400, "unsupported", `create "x": because`},
		{wrap(boxlite.ErrNotFound), 404, "not_found", `create "x": because`},
		{wrap(boxlite.ErrExists), 409, "already_exists", `create "x": because`},
		{wrap(boxlite.ErrState), 409, "invalid_state", `create "x": because`},
		{wrap(boxlite.ErrRuntimeClosed), 409, "stopped", `create "x": because`},
		{wrap(boxlite.ErrExhausted), 429, "resource_exhausted", `create "x": because`},
		{wrap(boxlite.ErrImage), 422, "image_pull_failed", `create "x": because`},
		{wrap(boxlite.ErrUnauthorized), 422, "image_pull_failed", `create "x": because`},
		{wrap(boxlite.ErrUnreachable), 503, "network_unavailable", `create "x": because`},
		{wrap(boxlite.ErrBoxDied), 503, "engine_unavailable", `create "x": because`},
		{&boxlite.CommandError{Code: 127, Err: errors.New("nosuch: not found")}, 422, "execution_failed", "nosuch: not found"},
		{context.DeadlineExceeded, 504, "timeout", "context deadline exceeded"},
		{errors.New("what else"), 500, "internal", "what else"},
	} {
		e := httpapi.ErrorOf(tt.err)
		if e.Status != tt.status || e.Code != tt.code || e.Message != tt.msg {
			t.Errorf("%v: got %d %s %q, want %d %s %q", tt.err, e.Status, e.Code, e.Message, tt.status, tt.code, tt.msg)
		}
	}
	if httpapi.ErrorOf(wrap(boxlite.ErrExhausted)).RetryAfter == 0 {
		t.Error("429 without Retry-After")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"name":"x","count":1,"env":{"A":"b"},"inner":{"on":true}}`))
	f.Add([]byte(`{"colour":1}`))
	f.Add([]byte("{\"name\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in input
		err := httpapi.DecodeBytes(body, &in)
		if err == nil {
			return
		}
		if e := httpapi.ErrorOf(err); e.Status != 400 || e.Message == "" {
			t.Errorf("%q: got %d %q, want 400 and a reason", body, e.Status, e.Message)
		}
	})
}
