package restapi

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// lease opens one and returns the socket and its name.
func (x *site) lease() (*websocket.Conn, string) {
	x.t.Helper()
	conn, _, err := websocket.Dial(x.t.Context(), x.http.URL+"/v1/lease", nil)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { conn.CloseNow() })
	_, text, err := conn.Read(x.t.Context())
	if err != nil {
		x.t.Fatal(err)
	}
	var hello rest.Lease
	if err := json.Unmarshal(text, &hello); err != nil || len(hello.Lease) < 20 {
		x.t.Fatalf("lease: got %s, %v", text, err)
	}
	return conn, hello.Lease
}

func (x *site) state(box string) string {
	x.t.Helper()
	a := x.do("GET", "/v1/boxes/"+box, "")
	if a.status == 404 {
		return "gone"
	}
	var b rest.Box
	if err := json.Unmarshal(a.body, &b); err != nil {
		x.t.Fatal(err)
	}
	return b.Status
}

// until waits until a box is in a state.
func (x *site) until(box, state string) {
	x.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); x.state(box) != state; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("box: got %s, want %s", x.state(box), state)
		}
	}
}

// TestLease: when the socket of a client ends, however it does, the attached
// boxes that its requests have started are stopped, and no others.
func TestLease(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	for name, end := range map[string]func(*websocket.Conn){
		"the client says so": func(c *websocket.Conn) {
			if err := c.Write(t.Context(), websocket.MessageText, []byte("{}")); err != nil {
				t.Fatal(err)
			}
			if _, _, err := c.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Errorf("the close: got %v", err)
			}
		},
		"its connection breaks": func(c *websocket.Conn) { c.CloseNow() },
	} {
		conn, id := x.lease()
		header := []string{rest.LeaseHeader, id}
		byStart, byExec, byFile := x.box(), x.box(), x.box(`"auto_remove":true`)
		detached, others, retaken := x.box(`"detach":true`), x.box(), x.box()
		for _, b := range []string{byStart, detached, retaken} {
			want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/start", "", header...)
		}
		want[rest.Started](x, 201, "POST", "/v1/boxes/"+byExec+"/exec", `{"command":"true"}`, header...)
		want[rest.File](x, 200, "GET", "/v1/boxes/"+byFile+"/files/stat?path=/", "", header...)
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+others+"/start", "")
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+others+"/start", "", header...) // it ran already
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+retaken+"/stop", "")
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+retaken+"/start", "") // now by somebody else
		end(conn)
		for box, state := range map[string]string{byStart: "stopped", byExec: "stopped", byFile: "gone"} {
			x.until(box, state)
		}
		for _, box := range []string{detached, others, retaken} {
			if got := x.state(box); got != "running" {
				t.Errorf("%s: a box that is not the client's: got %s, want running", name, got)
			}
		}
	}
}

// TestLeaseHasEnded: a box that is started in the name of a lease that is none
// does not stay.
func TestLeaseHasEnded(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	for what, path := range map[string]string{"start": "/start", "main": "/main"} {
		b := x.box(`"cmd":["sleep","1000"]`)
		a := x.do("POST", "/v1/boxes/"+b+path, "", rest.LeaseHeader, "NOSUCHLEASE")
		if code, message := a.fault(); a.status != 409 || code != "invalid_state" || !strings.Contains(message, "lease has ended") {
			t.Errorf("%s: got %v, want 409", what, a)
		}
		if got := x.state(b); got != "stopped" {
			t.Errorf("%s: the box is %s, want stopped", what, got)
		}
	}
	if a := x.do("GET", "/v1/lease", ""); a.status != 400 {
		t.Errorf("a lease without a socket: got %v, want 400", a)
	}
}

// TestLeaseHoldsForThoseWhoHungUp: the box of a client that hangs up when its
// start is done is its lease's.
func TestLeaseHoldsForThoseWhoHungUp(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	conn, id := x.lease()
	box := x.box()
	b, err := x.rt.Box(t.Context(), box)
	if err != nil {
		t.Fatal(err)
	}
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+box+"/start", "")
	ctx, hangUp := context.WithCancel(context.WithValue(t.Context(), leaseKey{}, id))
	hangUp()
	if err := x.s.hold(ctx, b, false); err != nil {
		t.Fatal(err)
	}
	conn.CloseNow()
	x.until(box, "stopped")
}

// TestMainEndsWithItsLease: a job in the foreground ends with the client also if
// it is detached, and its box with its command.
func TestMainEndsWithItsLease(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	conn, id := x.lease()
	short := x.box(`"cmd":["sh","-c","cat; exit 3"]`)
	want[rest.Started](x, 201, "POST", "/v1/boxes/"+short+"/main", `{"stdin":true}`, rest.LeaseHeader, id)
	c := x.attach(short, mainID, "")
	c.send(websocket.MessageBinary, "in")
	c.send(websocket.MessageText, `{"type":"stdin_eof"}`)
	if e := c.exit(3); e.out != "in" {
		t.Errorf("output: got %q, want %q", e.out, "in")
	}
	if got := x.state(short); got != "stopped" {
		t.Errorf("after its command: got %s, want stopped", got)
	}
	long := x.box(`"cmd":["sleep","1000"]`, `"detach":true`)
	want[rest.Started](x, 201, "POST", "/v1/boxes/"+long+"/main", "", rest.LeaseHeader, id)
	if s := want[rest.Started](x, 200, "POST", "/v1/boxes/"+long+"/main", ""); s.ExecutionID != mainID {
		t.Errorf("main of a box that runs: got %+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	_, _, _ = conn.Read(ctx) // it ends when the boxes have stopped
	if got := x.state(long); got != string(boxlite.StateStopped) {
		t.Errorf("after the lease: got %s, want stopped", got)
	}
}

// TestMainIsThereForItsClient: a command may be over, having written nothing,
// before its client comes to follow it.
func TestMainIsThereForItsClient(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	_, id := x.lease()
	job := x.box(`"cmd":["sh","-c","exit 7"]`, `"auto_remove":true`)
	want[rest.Started](x, 201, "POST", "/v1/boxes/"+job+"/main", `{}`, rest.LeaseHeader, id)
	for want[rest.Execution](x, 200, "GET", "/v1/boxes/"+job+"/executions/main", "").ExitCode == nil {
		if err := t.Context().Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		if got := x.state(job); got != "running" {
			t.Fatalf("before its client has come: got %s, want running", got)
		}
	}
	x.attach(job, mainID, "").exit(7)
	x.until(job, "gone")
}
