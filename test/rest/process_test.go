package rest

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestOrderlyEnd: SIGTERM stops what would end with the server, keeps its
// files, leaves detached boxes alone, and the server exits with 0.
func TestOrderlyEnd(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Alpine)
	p := startProcess(t, home)
	var box struct {
		ID string `json:"box_id"`
	}
	ids := map[bool]string{}
	for _, detach := range []bool{false, true} {
		body := `{"image":"alpine:latest"}`
		if detach {
			body = `{"image":"alpine:latest","detach":true}`
		}
		p.call("POST", "/v1/boxes", body, 201, &box)
		var ex struct {
			ID string `json:"execution_id"`
		}
		p.call("POST", "/v1/boxes/"+box.ID+"/exec", `{"command":"sh","args":["-c","echo kept >/root/file"]}`, 201, &ex)
		output(t, p.attach(box.ID, ex.ID, ""), "")
		ids[detach] = box.ID
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("exit: got %v, want 0", err)
	}
	for detach, want := range map[bool]boxlite.State{false: boxlite.StateStopped, true: boxlite.StateRunning} {
		b, err := rt.Box(t.Context(), ids[detach])
		if err != nil {
			t.Fatal(err)
		}
		if info, err := b.Info(t.Context()); err != nil || info.State != want {
			t.Errorf("detach %t: got %s, %v, want %s", detach, info.State, err, want)
		}
		if got := boxtest.Sh(t, b, "cat /root/file"); got != "kept\n" {
			t.Errorf("detach %t: file has %q", detach, got)
		}
		if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// TestReloadKeys: SIGHUP reads the file of keys again.
func TestReloadKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one first-key-0123456789\n")
	_, home := boxtest.New(t)
	p := startProcess(t, home, "--api-keys", file)
	status := func(key string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"/v1/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := [2]int{status("first-key-0123456789"), status("second-key-0123456789")}; got != [2]int{200, 401} {
		t.Errorf("before: got %v, want 200 and 401", got)
	}
	write("two second-key-0123456789 me:read\n")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	boxtest.Eventually(t, 10*time.Second, "the new key is good and the old one is not", func() bool {
		return status("second-key-0123456789") == 200 && status("first-key-0123456789") == 401
	})
}

// TestServeOnSocket: on a unix socket the user of the server needs no key.
func TestServeOnSocket(t *testing.T) {
	_, home := boxtest.New(t)
	path := filepath.Join(t.TempDir(), "s.sock")
	startProcess(t, home, "--socket", path)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://boxlite/v1/boxes", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %d, want 200", resp.StatusCode)
	}
}

// refusal starts a server that must not start, and looks for what it says.
func refusal(t *testing.T, want string, args ...string) {
	t.Helper()
	args = append([]string{"serve", "--home", t.TempDir()}, args...)
	out, err := exec.CommandContext(t.Context(), boxtest.CLI(t), args...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: got %v: %s; want a refusal with %q", args, err, out, want)
	}
}

// TestServeRefusesWide: without a key the server does not listen to a network,
// and says what to do.
func TestServeRefusesWide(t *testing.T) {
	refusal(t, "set an API key", "--host", "0.0.0.0", "--port", "0")
}
