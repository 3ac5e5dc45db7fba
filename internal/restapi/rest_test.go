package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestBadInput: what makes no sense is answered with status, code, and a
// message that names field and reason.
func TestBadInput(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box(`"name":"taken"`)
	box := "/v1/boxes/" + b
	id := x.exec(b, "sleep 1000")
	for _, tt := range []struct {
		method, path, body string
		status             int
		code, message      string
	}{
		{"POST", "/v1/boxes", `{"imgae":"x"}`, 400, "invalid_argument", `unknown field "imgae"`},
		{"POST", "/v1/boxes", `{"cpus":"two"}`, 400, "invalid_argument", "cpus: got a JSON string"},
		{"POST", "/v1/boxes", `{"cpus":1000}`, 400, "invalid_argument", "cpus 1000"},
		{"POST", "/v1/boxes", `{"memory_mib":1}`, 400, "invalid_argument", "memory 1 MiB"},
		{"POST", "/v1/boxes", `{"memory_mib":1000000000}`, 400, "invalid_argument", "memory_mib 1000000000"},
		{"POST", "/v1/boxes", `{"disk_size_gb":-1}`, 400, "invalid_argument", "disk size -1"},
		{"POST", "/v1/boxes", `{"name":"../x"}`, 400, "invalid_argument", `name "../x"`},
		{"POST", "/v1/boxes", `{"image":"UPPER case"}`, 400, "invalid_argument", "UPPER case"},
		{"POST", "/v1/boxes", `{"image":"a","rootfs_path":"/x"}`, 403, "permission_denied", "rootfs_path"},
		{"POST", "/v1/boxes", `{"working_dir":"here"}`, 400, "invalid_argument", `working directory "here"`},
		{"POST", "/v1/boxes", `{"env":{"":"x"}}`, 400, "invalid_argument", `environment "=x"`},
		{"POST", "/v1/boxes", `{"name":"taken"}`, 409, "already_exists", "taken"},
		{"POST", "/v1/boxes", `{"auto_stop":-1}`, 400, "invalid_argument", "auto_stop -1"},
		{"POST", "/v1/boxes", `{"labels":{"boxlite.rest/auto-stop":"1"}}`, 400, "invalid_argument", "server's own"},
		{"POST", "/v1/boxes", `{"security":{"preset":"loose"}}`, 400, "invalid_argument", "security.preset"},
		{"POST", "/v1/boxes", `{"security":{"max_processes":-1}}`, 400, "invalid_argument", "max processes -1"},
		{"POST", "/v1/boxes", `{"security":{"reduced_isolation":true}}`, 403, "permission_denied", "allow-reduced-isolation"},
		{"POST", "/v1/boxes", `{"security":{},"advanced":{"security":{}}}`, 400, "invalid_argument", "give one"},
		{"POST", "/v1/boxes", `{"advanced":{"capabilities":{"add":["ALL"]}}}`, 400, "unsupported", "capability ALL cannot be added"},
		{"POST", "/v1/boxes", `{"advanced":{"capabilities":{"drop":["NOSUCH"]}}}`, 400, "invalid_argument", `unknown capability "NOSUCH"`},
		{"POST", "/v1/boxes", `{"volumes":[{"guest_path":"/x"}]}`, 400, "invalid_argument", "give one of managed_volume and host_path"},
		{"POST", "/v1/boxes", `{"volumes":[{"host_path":"/etc","guest_path":"/x"}]}`, 403, "permission_denied", "volumes.host_path"},
		{"POST", "/v1/boxes", `{"volumes":[{"host_path":"/etc/../etc","guest_path":"/x"}]}`, 400, "invalid_argument", "clean absolute"},
		{"POST", "/v1/boxes", `{"network":{"outbound":{"mode":"enabled"},"mode":"enabled"}}`, 400, "invalid_argument", "not both"},
		{"POST", "/v1/boxes", `{"network":{"inbound":{"mode":"open"}}}`, 400, "invalid_argument", "network.inbound.mode"},
		{"POST", "/v1/boxes", `{"network":{"outbound":{"mode":"enabled","allow_net":["not a rule"]}}}`, 400, "invalid_argument", "network.outbound.allow_net"},
		{"POST", "/v1/boxes", `{"network":{"outbound":{"mode":"disabled","allow_net":["a.example"]}}}`, 400, "invalid_argument", "disabled, with rules"},
		{"POST", "/v1/boxes", `{"network":{"outbound":{"mode":"disabled"}},"ports":[{"guest_port":80}]}`, 400, "invalid_argument", "ports"},
		{"POST", "/v1/boxes", `{"ports":[{"guest_port":80,"protocol":"sctp"}]}`, 400, "invalid_argument", "sctp"},
		{"POST", "/v1/boxes", `{"secrets":[{"name":"K","value":"12345678"}]}`, 400, "invalid_argument", "no hosts"},
		{"PUT", box + "/network", `{"outbound":{"mode":"open"}}`, 400, "invalid_argument", "network.outbound.mode"},
		{"PUT", box + "/secrets/NONE", `{"value":"12345678"}`, 404, "not_found", "NONE"},
		{"GET", "/v1/boxes?pageSize=0", "", 400, "invalid_argument", "pageSize"},
		{"GET", "/v1/boxes?pageToken=nosuch", "", 400, "invalid_argument", "pageToken"},
		{"GET", "/v1/boxes?status=happy", "", 400, "invalid_argument", "status"},
		{"GET", "/v1/boxes/nosuch", "", 404, "not_found", `no box "nosuch"`},
		{"GET", "/v1/boxes/..%2F..%2Fetc%2Fpasswd", "", 404, "not_found", "no box"},
		{"GET", "/v1/boxes/%00", "", 404, "not_found", "no box"},
		{"GET", "/v1/boxes/" + strings.Repeat("x", 5000), "", 404, "not_found", "no box"},
		{"DELETE", box, "", 409, "invalid_state", "running"},
		{"DELETE", box + "?force=perhaps", "", 400, "invalid_argument", "force"},
		{"POST", box + "/stop", `{"timeout_seconds":-1}`, 400, "invalid_argument", "timeout_seconds"},
		{"POST", box + "/exec", `{}`, 400, "invalid_argument", "command: is missing"},
		{"POST", box + "/exec", `{"command":"/no/such/program"}`, 422, "execution_failed", "/no/such/program"},
		{"POST", box + "/exec", `{"command":"true","working_dir":"/no/such/dir"}`, 400, "invalid_argument", "/no/such/dir"},
		{"POST", box + "/exec", `{"command":"true","timeout_seconds":0.01}`, 400, "invalid_argument", "timeout_seconds 0.01"},
		{"POST", box + "/exec", `{"command":"true","timeout_seconds":1e300}`, 400, "invalid_argument", "timeout_seconds"},
		{"POST", box + "/exec", `{"command":"a\u0000b"}`, 400, "invalid_argument", "zero byte"},
		{"POST", box + "/exec", `{"command":"true","arg":[]}`, 400, "invalid_argument", `unknown field "arg"`},
		{"GET", box + "/executions/nosuch", "", 404, "not_found", `no execution "nosuch"`},
		{"GET", box + "/executions/..%2Fx", "", 404, "not_found", "no execution"},
		{"POST", box + "/executions/" + id + "/signal", `{"signal":11}`, 400, "invalid_argument", "signal 11"},
		{"POST", box + "/executions/" + id + "/resize", `{"cols":0,"rows":1}`, 400, "invalid_argument", "cols 0"},
		{"POST", box + "/executions/" + id + "/resize", `{"cols":1,"rows":1}`, 400, "invalid_argument", "terminal"},
		{"GET", box + "/files", "", 400, "invalid_argument", "path: is missing"},
		{"GET", box + "/files?path=/no/such/file", "", 404, "not_found", "/no/such/file"},
		{"PUT", box + "/files?path=/x", "text", 400, "invalid_argument", "Content-Type"},
		{"GET", "/v1/images/nosuch:image", "", 404, "not_found", "nosuch"},
		{"POST", "/v1/images/pull", `{"reference":"127.0.0.1:1/x"}`, 503, "network_unavailable", "127.0.0.1:1"},
		{"POST", "/v1/images/pull", `{}`, 400, "invalid_argument", "reference: is missing"},
		{"GET", "/v1/volumes/nosuch", "", 404, "not_found", `no volume "nosuch"`},
		{"POST", "/v1/volumes", `{"name":"../x"}`, 400, "invalid_argument", "../x"},
		{"GET", "/v2/boxes", "", 404, "not_found", "/v2/boxes"},
		{"PATCH", box, "", 405, "invalid_argument", "PATCH"},
	} {
		a := x.do(tt.method, tt.path, tt.body)
		code, message := a.fault()
		if a.status != tt.status || code != tt.code || !strings.Contains(message, tt.message) {
			t.Errorf("%s %.80s %s: got %d %s %q, want %d %s %q", tt.method, tt.path, tt.body, a.status, code, message, tt.status, tt.code, tt.message)
		}
	}
}

func TestListPagesAndFilter(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	var ids []string
	for range 5 {
		ids = append(ids, x.box())
	}
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+ids[2]+"/start", "")
	var got []string
	token := ""
	for range 3 {
		l := want[rest.Boxes](x, 200, "GET", "/v1/boxes?pageSize=2&pageToken="+token, "")
		for _, b := range l.Boxes {
			got = append(got, b.BoxID)
		}
		token = l.NextPageToken
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) || token != "" {
		t.Errorf("pages: got %v and token %q, want %v", got, token, ids)
	}
	if l := want[rest.Boxes](x, 200, "GET", "/v1/boxes?status=running", ""); len(l.Boxes) != 1 || l.Boxes[0].BoxID != ids[2] {
		t.Errorf("running: got %+v", l)
	}
	if a := x.do("HEAD", "/v1/boxes/"+ids[0], ""); a.status != 204 {
		t.Errorf("HEAD: got %v, want 204", a)
	}
	if a := x.do("HEAD", "/v1/boxes/nosuch", ""); a.status != 404 {
		t.Errorf("HEAD of none: got %v, want 404", a)
	}
}

// TestIdempotencyKey: the same request twice makes one box.
func TestIdempotencyKey(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	body := fmt.Sprintf(`{"image":%q}`, image)
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			a := x.do("POST", "/v1/boxes", body, "Idempotency-Key", "one")
			var b rest.Box
			_ = json.Unmarshal(a.body, &b)
			ids[i] = b.BoxID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("got %v, want one box", ids)
		}
	}
	if a := x.do("POST", "/v1/boxes", `{"image":"other"}`, "Idempotency-Key", "one"); a.status != 400 {
		t.Errorf("another body: got %v, want 400", a)
	}
	if a := x.do("POST", "/v1/boxes", `{"cpus":-1}`, "Idempotency-Key", "two"); a.status != 400 {
		t.Errorf("bad: got %v", a)
	}
	if a := x.do("POST", "/v1/boxes", body, "Idempotency-Key", "two"); a.status != 201 || a.header.Get("Location") == "" {
		t.Errorf("after a failure: got %v, want 201", a)
	}
}

// TestBounds: beyond what the server takes on it says 429 and when to come
// back, and takes on more when there is room.
func TestBounds(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, a answer, about string) {
		t.Helper()
		if code, msg := a.fault(); a.status != 429 || code != "resource_exhausted" || a.header.Get("Retry-After") == "" || !strings.Contains(msg, about) {
			t.Errorf("got %v, Retry-After %q; want 429 about %s", a, a.header.Get("Retry-After"), about)
		}
	}
	t.Run("boxes", func(t *testing.T) {
		x := newSite(t, Config{Limits: Limits{Boxes: 2}})
		first := x.box()
		x.box()
		refused(t, x.do("POST", "/v1/boxes", `{"image":"a"}`), "2 boxes")
		want[any](x, 204, "DELETE", "/v1/boxes/"+first, "")
		x.box()
	})
	t.Run("running", func(t *testing.T) {
		x := newSite(t, Config{Limits: Limits{Running: 1}})
		a, b := x.box(), x.box()
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+a+"/start", "")
		refused(t, x.do("POST", "/v1/boxes/"+b+"/exec", `{"command":"true"}`), "1 boxes run")
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+a+"/stop", "")
		want[rest.Started](x, 201, "POST", "/v1/boxes/"+b+"/exec", `{"command":"true"}`)
	})
	t.Run("memory", func(t *testing.T) {
		x := newSite(t, Config{Limits: Limits{MemoryMiB: 700}})
		a, b := x.box(`"memory_mib":400`), x.box(`"memory_mib":400`)
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+a+"/start", "")
		refused(t, x.do("POST", "/v1/boxes/"+b+"/start", ""), "400 MiB are promised")
		// One that another program stops makes room too.
		box, err := x.rt.Box(t.Context(), a)
		if err == nil {
			err = box.Stop(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/start", "")
	})
	t.Run("executions", func(t *testing.T) {
		x := newSite(t, Config{Limits: Limits{Executions: 1}})
		b := x.box()
		c := x.attach(b, x.exec(b, "read a"), "")
		refused(t, x.do("POST", "/v1/boxes/"+b+"/exec", `{"command":"true"}`), "1 commands run")
		c.conn.CloseNow()
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/stop", "")
		for {
			if a := x.do("POST", "/v1/boxes/"+b+"/exec", `{"command":"true"}`); a.status == 201 {
				break
			} else if a.status != 429 {
				t.Fatalf("after the end: got %v", a)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// TestManyStarts: boxes that start at once take turns, and all start.
func TestManyStarts(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{Limits: Limits{Starts: 2}})
	var wg sync.WaitGroup
	for range 10 {
		id := x.box()
		wg.Go(func() {
			if a := x.do("POST", "/v1/boxes/"+id+"/start", ""); a.status != 200 {
				t.Errorf("start: got %v", a)
			}
		})
	}
	wg.Wait()
}

func TestVolumes(t *testing.T) {
	t.Parallel()
	shared := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(shared, "link")); err != nil {
		t.Fatal(err)
	}
	x := newSite(t, Config{Host: HostPolicy{Dirs: []string{shared}}})
	v := want[rest.Volume](x, 201, "POST", "/v1/volumes", `{"name":"data"}`)
	if v.ID != "data" || v.State != "ready" {
		t.Errorf("got %+v", v)
	}
	b := x.box(`"volumes":[{"managed_volume":"data","guest_path":"/data"}]`)
	if l := want[rest.Volumes](x, 200, "GET", "/v1/volumes", ""); len(l.Volumes) != 1 || len(l.Volumes[0].Boxes) != 1 {
		t.Errorf("list: got %+v", l)
	}
	if a := x.do("DELETE", "/v1/volumes/data", ""); a.status != 409 {
		t.Errorf("in use: got %v, want 409", a)
	}
	want[any](x, 204, "DELETE", "/v1/boxes/"+b, "")
	want[any](x, 204, "DELETE", "/v1/volumes/data", "")
	want[any](x, 204, "DELETE", "/v1/volumes/data?force=true", "")
	if a := x.do("POST", "/v1/boxes", fmt.Sprintf(`{"image":%q,"volumes":[{"host_path":%q,"guest_path":"/x"}]}`, image, filepath.Join(shared, "link"))); a.status != 403 {
		t.Errorf("a link that leads out: got %v, want 403", a)
	}
	x.box(fmt.Sprintf(`"volumes":[{"host_path":%q,"guest_path":"/x","read_only":true}]`, shared))
}

// TestHostIsCheckedAtStart: what of the host was allowed when a box was made is
// looked at again when it starts.
func TestHostIsCheckedAtStart(t *testing.T) {
	t.Parallel()
	shared, secret := t.TempDir(), t.TempDir()
	sub := filepath.Join(shared, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	x := newSite(t, Config{Host: HostPolicy{Dirs: []string{shared}, ReducedIsolation: true}})
	volume := x.box(fmt.Sprintf(`"volumes":[{"host_path":%q,"guest_path":"/x"}]`, sub))
	reduced := x.box(`"security":{"reduced_isolation":true}`)
	if b := want[rest.Box](x, 200, "GET", "/v1/boxes/"+volume, ""); len(b.Labels) != 0 {
		t.Errorf("labels: got %v, want none", b.Labels)
	}
	// As another box could, that has what is above for writing.
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, sub); err != nil {
		t.Fatal(err)
	}
	refused := func(x *site, box, why string) {
		t.Helper()
		for _, path := range []string{"/start", "/exec"} {
			a := x.do("POST", "/v1/boxes/"+box+path, `{"command":"true"}`)
			if _, message := a.fault(); a.status != 403 || !strings.Contains(message, why) {
				t.Errorf("%s: got %v, want 403 %q", path, a, why)
			}
		}
	}
	refused(x, volume, "symbolic link")
	if err := os.Remove(sub); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	stricter := serveOn(t, x.rt, Config{})
	refused(stricter, volume, "no longer")
	refused(stricter, reduced, "--allow-reduced-isolation")
}

func TestNetworkOptions(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	id := x.box(`"network":{"outbound":{"mode":"enabled","allow_net":["api.example.com:443"],"deny_net":["10.0.0.0/8"]},"inbound":{"mode":"enabled"}}`)
	b := want[rest.Box](x, 200, "GET", "/v1/boxes/"+id, "")
	if n := b.Network; n.Outbound.Mode != "enabled" || fmt.Sprint(n.Outbound.AllowNet, n.Outbound.DenyNet) != "[api.example.com:443] [10.0.0.0/8]" {
		t.Errorf("got %+v", n)
	}
	want[any](x, 204, "PUT", "/v1/boxes/"+id+"/network", `{"mode":"disabled"}`)
	b = want[rest.Box](x, 200, "GET", "/v1/boxes/"+id, "")
	if b.Network.Outbound.Mode != "disabled" || b.Network.Mode != "disabled" {
		t.Errorf("after the change: got %+v", b.Network)
	}
	if a := x.do("GET", "/v1/boxes/"+id+"/network/log", ""); a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("log: got %v", a)
	}
	off := x.box(`"security":{"network_enabled":false}`)
	if b := want[rest.Box](x, 200, "GET", "/v1/boxes/"+off, ""); b.Network.Outbound.Mode != "disabled" {
		t.Errorf("network_enabled false: got %+v", b.Network)
	}
}

// TestSecrets: values are kept for the starts to come, and shown to nobody.
func TestSecrets(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	x := newSite(t, Config{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	const value = "very-secret-value"
	id := x.box(fmt.Sprintf(`"secrets":[{"name":"TOKEN","value":%q,"hosts":["api.example.com"]}]`, value))
	if e := x.attach(id, x.exec(id, "echo $BOXLITE_SECRET_TOKEN"), "").exit(0); e.out != "<BOXLITE_SECRET:TOKEN>\n" {
		t.Errorf("in the box: got %q", e.out)
	}
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+id+"/stop", "")
	x.attach(id, x.exec(id, "true"), "").exit(0) // the start wants the value again
	want[any](x, 204, "PUT", "/v1/boxes/"+id+"/secrets/TOKEN", `{"value":"another-secret"}`)
	for _, path := range []string{"/v1/boxes/" + id, "/v1/boxes"} {
		if a := x.do("GET", path, ""); strings.Contains(string(a.body), "secret") {
			t.Errorf("%s tells the secret: %v", path, a)
		}
	}
	if strings.Contains(log.String(), value) || strings.Contains(log.String(), "another-secret") {
		t.Error("the log tells the secret")
	}
}

// TestDrain: at its end the server stops the boxes that would end with it and
// keeps their files; detached ones go on.
func TestDrain(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	attached, detached := x.box(), x.box(`"detach":true`)
	for _, id := range []string{attached, detached} {
		x.attach(id, x.exec(id, "true"), "").exit(0)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	x.s.Drain(ctx)
	if a := x.do("GET", "/readyz", ""); a.status != 503 {
		t.Errorf("readyz: got %v, want 503", a)
	}
	if a := x.do("POST", "/v1/boxes", `{}`); a.status != 503 || a.header.Get("Retry-After") == "" {
		t.Errorf("create: got %v, want 503", a)
	}
	for id, want := range map[string]boxlite.State{attached: boxlite.StateStopped, detached: boxlite.StateRunning} {
		b, err := x.rt.Box(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := b.Info(t.Context()); err != nil || info.State != want {
			t.Errorf("got %s, %v, want %s", info.State, err, want)
		}
	}
}

func TestSystem(t *testing.T) {
	t.Parallel()
	keys := &httpapi.Keys{}
	if err := keys.Load("the-key-0123456789", ""); err != nil {
		t.Fatal(err)
	}
	x := newSite(t, Config{Keys: keys, PathPrefix: "acme/team"})
	for _, open := range []string{"/healthz", "/readyz", "/v1/config"} {
		if a := x.do("GET", open, ""); a.status != 200 {
			t.Errorf("%s without a key: got %v, want 200", open, a)
		}
	}
	c := want[rest.Config](x, 200, "GET", "/v1/config", "")
	if c.Capabilities["tty_enabled"] != true || len(c.Extensions) == 0 {
		t.Errorf("config: got %+v", c)
	}
	auth := []string{"Authorization", "Bearer the-key-0123456789"}
	if a := x.do("GET", "/v1/me", ""); a.status != 401 {
		t.Errorf("me without a key: got %v, want 401", a)
	}
	if me := want[rest.Me](x, 200, "GET", "/v1/me", "", auth...); me.Sub != "default" || len(me.Scopes) == 0 || *me.PathPrefix != "acme/team" {
		t.Errorf("me: got %+v", me)
	}
	for _, path := range []string{"/v1/boxes", "/v1/default/boxes", "/v1/acme/team/boxes"} {
		want[rest.Boxes](x, 200, "GET", path, "", auth...)
	}
	if a := x.do("GET", "/metrics", "", auth...); a.status != 200 || !strings.Contains(string(a.body), `boxlite_http_request_duration_seconds_count{route="GET /v1/boxes",status="200"} 3`) {
		t.Errorf("metrics: got %s", a.body)
	}
}

// TestClientThatHangsUp: a listener that closes leaves nothing behind.
func TestClientThatHangsUp(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(x.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /v1/boxes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
	conn.Close()
	if a := x.do("GET", "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("got %v", a)
	}
}
