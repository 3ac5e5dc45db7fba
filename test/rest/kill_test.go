package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/restapi/resttest"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/coder/websocket"
)

// process is a server of its own, started as users do.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string

	header map[string]string // of each request to come, besides the key
}

func startProcess(t *testing.T, home string, args ...string) *process {
	t.Helper()
	args = append([]string{"serve", "--port", "0", "--home", home}, args...)
	p := &process{t: t, cmd: exec.Command(boxtest.CLI(t), args...)}
	p.cmd.Env = append(os.Environ(), "BOXLITE_SERVE_API_KEY="+apiKey)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	r := bufio.NewReader(stderr)
	for p.url == "" {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("serve: %v", err)
		}
		_, p.url, _ = strings.Cut(strings.TrimSpace(line), "listening on ")
	}
	go func() { _, _ = io.Copy(io.Discard, r) }() // ends with the process
	return p
}

// call makes a request and decodes the answer.
func (p *process) call(method, path, body string, status int, v any) {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), method, p.url+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	for k, v := range p.header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	judge.Check(resttest.Exchange{
		Method: method, URL: r.URL, Request: []byte(body), Status: resp.StatusCode, Header: resp.Header, Response: b,
	})
	judged(p.t)
	if resp.StatusCode != status {
		p.t.Fatalf("%s %s: got %d %s, want %d", method, path, resp.StatusCode, b, status)
	}
	if v != nil {
		if err := json.Unmarshal(b, v); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *process) attach(box, id, query string) *websocket.Conn {
	p.t.Helper()
	conn, _, err := websocket.Dial(p.t.Context(), p.url+"/v1/boxes/"+box+"/executions/"+id+"/attach"+query,
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + apiKey}}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.CloseNow() })
	return conn
}

// output reads until output ends with end, or the socket with an exit.
func output(t *testing.T, conn *websocket.Conn, end string) (out, last string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for end == "" || !strings.HasSuffix(out, end) {
		kind, b, err := conn.Read(ctx)
		switch {
		case err != nil && end == "":
			return out, last
		case err != nil:
			t.Fatalf("after %q: %v", out, err)
		case kind == websocket.MessageText:
			last = string(b)
		default:
			out += string(b[1:])
		}
	}
	return out, last
}

// TestKilledServer: after kill -9 of the server its attached boxes end, its
// detached ones go on, and the next server serves them: executions are attached
// to again, with their output from any offset that is kept.
func TestKilledServer(t *testing.T) {
	_, home := boxtest.New(t, boxtest.Alpine)
	first := startProcess(t, home)
	var box struct {
		ID string `json:"box_id"`
	}
	var ex struct {
		ID string `json:"execution_id"`
	}
	ids := map[bool]string{}
	for _, detach := range []bool{false, true} {
		first.call("POST", "/v1/boxes", fmt.Sprintf(`{"image":"alpine:latest","detach":%t}`, detach), 201, &box)
		first.call("POST", "/v1/boxes/"+box.ID+"/exec",
			`{"command":"sh","args":["-c","echo before; read a; echo got $a; exit 7"]}`, 201, &ex)
		output(t, first.attach(box.ID, ex.ID, ""), "before\n")
		ids[detach] = box.ID
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()

	second := startProcess(t, home)
	var state struct{ Status string }
	boxtest.Eventually(t, 20*time.Second, "the attached box ends with its server", func() bool {
		second.call("GET", "/v1/boxes/"+ids[false], "", 200, &state)
		return state.Status != string(boxlite.StateRunning)
	})
	second.call("GET", "/v1/boxes/"+ids[true], "", 200, &state)
	if state.Status != string(boxlite.StateRunning) {
		t.Fatalf("the detached box: got %s, want running", state.Status)
	}
	conn := second.attach(ids[true], ex.ID, "?stdout_offset=3")
	output(t, conn, "ore\n")
	if err := conn.Write(t.Context(), websocket.MessageBinary, []byte("input\n")); err != nil {
		t.Fatal(err)
	}
	if out, last := output(t, conn, ""); out != "got input\n" || !strings.Contains(last, `"exit_code":7`) {
		t.Errorf("got %q and %s, want the rest and exit 7", out, last)
	}
	if out, last := output(t, second.attach(ids[true], ex.ID, ""), ""); out != "before\ngot input\n" || !strings.Contains(last, `"exit_code":7`) {
		t.Errorf("replay: got %q and %s", out, last)
	}
	for _, id := range ids {
		second.call("DELETE", "/v1/boxes/"+id+"?force=true", "", 204, nil)
	}
}
