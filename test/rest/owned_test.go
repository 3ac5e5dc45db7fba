package rest

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// owned is a server that ends with its standard input.
type owned struct {
	process
	stdin  io.Closer
	stderr strings.Builder
}

func startOwned(t *testing.T, home string) *owned {
	t.Helper()
	cmd := exec.Command(boxtest.CLI(t), "serve", "--until-eof", "--log-format", "off", "--port", "0", "--home", home)
	p := &owned{process: process{t: t, cmd: cmd}}
	cmd.Env = append(os.Environ(), "BOXLITE_SERVE_API_KEY="+apiKey)
	cmd.Stderr = &p.stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("serve: %v", err)
	}
	_, p.url, _ = strings.Cut(strings.TrimSpace(line), "listening on ")
	return p
}

// TestServeUntilEOF: a server that is owned takes requests as soon as it says
// so, leaves SIGINT to its owner, and ends in order when the owner is gone: the
// boxes that go when they stop go, whether they run or never did; the others
// stay, and those that are detached run on. It says nothing but that one line.
func TestServeUntilEOF(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	p := startOwned(t, home)
	var box struct {
		ID string `json:"box_id"`
	}
	ids := map[string]string{}
	for name, body := range map[string]string{
		"used":     `{"image":"alpine:latest","auto_remove":true}`,
		"unused":   `{"image":"alpine:latest","auto_remove":true}`,
		"kept":     `{"image":"alpine:latest"}`,
		"detached": `{"image":"alpine:latest","detach":true}`,
	} {
		p.call("POST", "/v1/boxes", body, 201, &box)
		ids[name] = box.ID
		if name == "used" || name == "detached" {
			p.call("POST", "/v1/boxes/"+box.ID+"/exec", `{"command":"sleep","args":["1000"]}`, 201, nil)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.call("GET", "/v1/boxes", "", http.StatusOK, nil)

	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil || p.stderr.Len() > 0 {
		t.Errorf("got %v and the words %q, want exit 0 and silence", err, p.stderr.String())
	}
	for name, want := range map[string]boxlite.State{"kept": boxlite.StateConfigured, "detached": boxlite.StateRunning} {
		b, err := rt.Box(t.Context(), ids[name])
		if err != nil {
			t.Errorf("the %s box: %v", name, err)
			continue
		}
		if info, err := b.Info(t.Context()); err != nil || info.State != want {
			t.Errorf("the %s box: got %s, %v, want %s", name, info.State, err, want)
		}
		if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"used", "unused"} {
		if _, err := rt.Box(t.Context(), ids[name]); !errors.Is(err, boxlite.ErrNotFound) {
			t.Errorf("the %s box: got %v, want it gone", name, err)
		}
	}
}

// TestOwnedServerEndsAtOnce: without anybody at the other end it does not wait.
func TestOwnedServerEndsAtOnce(t *testing.T) {
	_, home := boxtest.New(t)
	cmd := exec.CommandContext(t.Context(), boxtest.CLI(t), "serve", "--until-eof", "--port", "0", "--home", home)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "standard input ended") {
		t.Errorf("got %v: %s, want exit 0 and the cause in the log", err, out)
	}
}
