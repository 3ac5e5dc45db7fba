package restapi

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restapi/resttest"
	"github.com/coder/websocket"
)

func TestMain(m *testing.M) {
	boxlite.RunHelper(enginetest.Fake())
	if err := enginetest.Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var err error
	if judge, err = resttest.Open(filepath.Join("..", "..", "api", "openapi.yaml")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if code == 0 && flag.Lookup("test.run").Value.String() == "" && !allUsed() {
		code = 1
	}
	os.Exit(code)
}

// allUsed tells whether the judge has seen an answer of every operation.
func allUsed() bool {
	left := slices.DeleteFunc(judge.Unseen(), func(op string) bool {
		return op == "GET /v1/boxes/{id}/network/connect" // needs a network: package test/rest
	})
	if len(left) > 0 {
		fmt.Fprintf(os.Stderr, "operations that no test has used: %q\n", left)
	}
	return len(left) == 0
}

// judge compares all that is asked and answered with the document.
var judge *resttest.Judge

// image is what the boxes of the tests are made from. On the fake engine
// commands are the host's, so it may be empty.
const image = "test:latest"

// site is a server on the fake engine, and a client of it.
type site struct {
	t    testing.TB
	rt   *boxlite.Runtime
	s    *Server
	http *httptest.Server
}

func newSite(t testing.TB, cfg Config) *site {
	t.Helper()
	rt, err := boxlite.Open(t.Context(), boxlite.Config{Home: t.TempDir(), Engine: enginetest.Fake()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	var empty bytes.Buffer
	if err := tar.NewWriter(&empty).Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Images().Import(t.Context(), &empty, image, boxlite.ImageConfig{Env: []string{"PATH=" + os.Getenv("PATH")}}); err != nil {
		t.Fatal(err)
	}
	return serveOn(t, rt, cfg)
}

func serveOn(t testing.TB, rt *boxlite.Runtime, cfg Config) *site {
	t.Helper()
	cfg.Runtime = rt
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	x := &site{t: t, rt: rt, s: New(cfg)}
	x.http = httptest.NewServer(judge.Handler(x.s, strings.Trim(cfg.PathPrefix, "/")))
	t.Cleanup(func() {
		x.s.Drain(context.Background())
		x.s.Close()
		x.http.Close()
		for _, f := range judge.Faults() { // of the others that run now too
			t.Error(f)
		}
	})
	return x
}

// answer is what a server said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// fault is the error in an answer.
func (a answer) fault() (code, message string) {
	var e struct {
		Error struct{ Code, Message string } `json:"error"`
	}
	_ = json.Unmarshal(a.body, &e)
	return e.Error.Code, e.Error.Message
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// do makes a request; header is pairs of name and value.
func (x *site) do(method, path, body string, header ...string) answer {
	x.t.Helper()
	r, err := http.NewRequestWithContext(x.t.Context(), method, x.http.URL+path, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		x.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// want makes a request that is answered with a status, and decodes the answer.
func want[T any](x *site, status int, method, path, body string, header ...string) (v T) {
	x.t.Helper()
	a := x.do(method, path, body, header...)
	if a.status != status {
		x.t.Fatalf("%s %s: got %v, want %d", method, path, a, status)
	}
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &v); err != nil {
			x.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
	return v
}

// box creates a box and returns its id.
func (x *site) box(more ...string) string {
	x.t.Helper()
	body := fmt.Sprintf(`{"image":%q%s}`, image, strings.Join(append([]string{""}, more...), ","))
	id := want[rest.Box](x, 201, "POST", "/v1/boxes", body).BoxID
	x.t.Cleanup(func() {
		if err := x.rt.Remove(context.Background(), id, boxlite.RemoveOptions{Force: true}); err != nil && httpapi.ErrorOf(err).Kind != httpapi.NotFound {
			x.t.Errorf("remove: %v", err)
		}
	})
	return id
}

// exec starts a shell with a script and returns the id of the execution.
func (x *site) exec(box, script string, more ...string) string {
	x.t.Helper()
	s, _ := json.Marshal(script)
	body := fmt.Sprintf(`{"command":"sh","args":["-c",%s]%s}`, s, strings.Join(append([]string{""}, more...), ","))
	return want[rest.Started](x, 201, "POST", "/v1/boxes/"+box+"/exec", body).ExecutionID
}

// socketClient is a WebSocket that follows an execution.
type socketClient struct {
	t    testing.TB
	conn *websocket.Conn
}

func (x *site) attach(box, id, query string) *socketClient {
	x.t.Helper()
	c, resp, err := x.dial(box, id, query)
	if err != nil {
		status := 0
		if resp != nil {
			status = resp.StatusCode
		}
		x.t.Fatalf("attach: %v, status %d", err, status)
	}
	return c
}

func (x *site) dial(box, id, query string) (*socketClient, *http.Response, error) {
	return x.dialPath("/v1/boxes/" + box + "/executions/" + id + "/attach" + query)
}

func (x *site) dialPath(path string) (*socketClient, *http.Response, error) {
	ctx, cancel := context.WithTimeout(x.t.Context(), 20*time.Second)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, x.http.URL+path, nil)
	if err != nil {
		return nil, resp, err
	}
	conn.SetReadLimit(1 << 20)
	x.t.Cleanup(func() { conn.CloseNow() })
	return &socketClient{x.t, conn}, resp, nil
}

// frame is the next one: of a channel, or text.
func (c *socketClient) frame() (channel byte, text string, err error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	kind, p, err := c.conn.Read(ctx)
	switch {
	case err != nil:
		return 0, "", err
	case kind == websocket.MessageText:
		return 0, string(p), nil
	}
	return p[0], string(p[1:]), nil
}

func (c *socketClient) send(kind websocket.MessageType, p string) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), kind, []byte(p)); err != nil {
		c.t.Fatal(err)
	}
}

// until reads until output has come that ends with want.
func (c *socketClient) until(end string) string {
	c.t.Helper()
	all := ""
	for !strings.HasSuffix(all, end) {
		_, p, err := c.frame()
		if err != nil {
			c.t.Fatalf("after %q: %v, want %q", all, err, end)
		}
		all += p
	}
	return all
}

// ended is all that came until the close of a socket.
type ended struct {
	out, err string
	exits    []exitFrame
	texts    []string
	close    websocket.StatusCode
}

func (c *socketClient) rest() (e ended) {
	c.t.Helper()
	var out, errs strings.Builder
	defer func() { e.out, e.err = out.String(), errs.String() }()
	for {
		channel, p, err := c.frame()
		if err != nil {
			e.close = websocket.CloseStatus(err)
			if e.close == -1 {
				c.t.Logf("closed without a code: %v", err)
			}
			return e
		}
		switch channel {
		case rest.Stdout:
			out.WriteString(p)
		case rest.Stderr:
			errs.WriteString(p)
		default:
			var x exitFrame
			if json.Unmarshal([]byte(p), &x) == nil && x.Type == "exit" {
				e.exits = append(e.exits, x)
				continue
			}
			e.texts = append(e.texts, p)
		}
	}
}

// exit checks that a socket ended with one exit and an orderly close.
func (c *socketClient) exit(code int) ended {
	c.t.Helper()
	e := c.rest()
	if len(e.exits) != 1 || e.exits[0].ExitCode != code || e.close != websocket.StatusNormalClosure {
		c.t.Fatalf("got exits %+v, close %d, output %.100q; want one exit %d and close 1000", e.exits, e.close, e.out, code)
	}
	return e
}
