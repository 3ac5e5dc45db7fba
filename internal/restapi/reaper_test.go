package restapi

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
)

var reaping = Reaping{After: 5 * time.Minute, Grace: 30 * time.Second, Lifetime: 24 * time.Hour}

// TestDue: who follows a command or asks for it puts off its end, who does
// neither does not, and none lives longer than the server says.
func TestDue(t *testing.T) {
	t.Parallel()
	const hup, term, kill = syscall.SIGHUP, syscall.SIGTERM, syscall.SIGKILL
	started := func() *session {
		x := newSession("box", "test")
		x.begun = x.touched
		return x
	}
	for _, tt := range []struct {
		name string
		r    Reaping
		f    func(x *session, due func(after time.Duration, want syscall.Signal))
	}{
		{"left alone", reaping, func(_ *session, due func(time.Duration, syscall.Signal)) {
			due(5*time.Minute-1, 0)
			due(1, hup)
			due(30*time.Second-1, 0)
			due(1, term)
			due(30*time.Second-1, 0)
			due(1, kill)
			due(5*time.Second, kill) // it was not to be had: again
		}},
		{"asked for", reaping, func(x *session, due func(time.Duration, syscall.Signal)) {
			due(5*time.Minute-1, 0)
			x.touch()
			due(5*time.Minute-1, 0)
			due(1, hup)
			x.touch() // a client has come back: the command may live
			due(5*time.Minute-1, 0)
			due(1, hup)
		}},
		{"followed", reaping, func(x *session, due func(time.Duration, syscall.Signal)) {
			due(5*time.Minute, hup)
			k := newSocket(context.Background(), x, wish{}, nil)
			if err := x.enter(k); err != nil {
				t.Error(err)
			}
			due(10*time.Hour, 0)
			x.leave(k)
			due(5*time.Minute-1, 0)
			due(1, hup)
			if err := x.enter(k); err != nil {
				t.Error(err)
			}
			due(14*time.Hour, kill) // whoever follows it
			if err := x.enter(k); err == nil {
				t.Error("a client could attach to what is killed")
			}
		}},
		{"ended", reaping, func(x *session, due func(time.Duration, syscall.Signal)) {
			x.set(&exit{})
			due(time.Hour, 0)
			due(48*time.Hour, 0)
		}},
		{"of somebody else", reaping, func(x *session, due func(time.Duration, syscall.Signal)) {
			x.begun = time.Time{}
			due(time.Hour, 0)
			due(48*time.Hour, 0)
		}},
		{"a server that reaps nothing", Reaping{}, func(_ *session, due func(time.Duration, syscall.Signal)) {
			due(1000*time.Hour, 0)
		}},
		{"the least is said", Reaping{After: time.Hour}, func(_ *session, due func(time.Duration, syscall.Signal)) {
			due(time.Hour, hup)
			due(30*time.Second, term)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := started()
				tt.f(x, func(after time.Duration, want syscall.Signal) {
					t.Helper()
					time.Sleep(after)
					if got, why := x.due(tt.r, time.Now()); got != want || (got != 0) != (why != "") {
						t.Errorf("got signal %d, %q, want %d", got, why, want)
					}
				})
			})
		})
	}
}

// TestReaps: a command that is left alone and does not end when asked to is
// ended; it is gone for clients, and its place is free.
func TestReaps(t *testing.T) {
	t.Parallel()
	var log output
	x := newSite(t, Config{Reaping: reaping, Limits: Limits{Executions: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	b := x.box()
	id := x.exec(b, "trap '' HUP; trap 'echo term' TERM; echo ready; while :; do sleep 1000 & wait; done")
	out := x.watch(b, id)
	out.until("ready\n")
	now := time.Now()
	for range 2 {
		now = now.Add(6 * time.Minute)
		x.s.sessions.sweep(t.Context(), now)
	}
	out.until("term\n")
	x.s.sessions.sweep(t.Context(), now.Add(6*time.Minute))
	for _, sig := range []string{"signal=1 ", "signal=15 ", "signal=9 "} {
		if !strings.Contains(log.String(), sig) {
			t.Errorf("log: got %s, want %s", log.String(), sig)
		}
	}
	if err := <-out.ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("end: got %v, want killed", err)
	}
	path := "/v1/boxes/" + b + "/executions/" + id
	gone := func(when string) {
		for _, a := range []answer{x.do("GET", path, ""), x.do("POST", path+"/signal", `{"signal":15}`), x.do("GET", path+"/attach", ""), x.do("DELETE", path, "")} {
			if code, msg := a.fault(); a.status != http.StatusGone || code != "session_reaped" || !strings.Contains(msg, "5m0s") {
				t.Errorf("%s: got %v, want 410 session_reaped with the time", when, a)
			}
		}
	}
	gone("at once")
	x.s.sessions.sweep(t.Context(), now.Add(time.Hour))
	gone("an hour later")
	body := `{"command":"true"}`
	for x.do("POST", "/v1/boxes/"+b+"/exec", body).status == http.StatusTooManyRequests {
		x.s.sessions.sweep(t.Context(), time.Now()) // the server has not seen its end yet
	}
}

// TestReapsNotTheMainCommand, nor what was not started over HTTP.
func TestReapsNotTheMainCommand(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{Reaping: reaping})
	job := x.box(`"cmd":["sh","-c","echo main; sleep 1000"]`)
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+job+"/start", "")
	box, err := x.rt.Box(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	cmd := box.Command(t.Context(), "sh", "-c", "read a")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{mainID, cmd.ID()} {
		path := "/v1/boxes/" + job + "/executions/" + id
		want[rest.Execution](x, 200, "GET", path, "")
		for now, i := time.Now(), 0; i < 5; i++ {
			now = now.Add(25 * time.Hour)
			x.s.sessions.sweep(t.Context(), now)
		}
		if r := want[rest.Execution](x, 200, "GET", path, ""); r.Status != "running" {
			t.Errorf("%s: got %+v, want running", id, r)
		}
	}
}

// TestRememberedExecutionsAreBounded: those that ended are forgotten, oldest
// first; none that runs is.
func TestRememberedExecutionsAreBounded(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	x.s.sessions.max = 8
	b := x.box()
	running := x.exec(b, "read a")
	var last string
	for range 30 {
		last = x.exec(b, "exit 3")
		x.attach(b, last, "").exit(3)
	}
	if n := len(x.s.sessions.of("")); n > 9 { // the last may still have its socket
		t.Errorf("%d executions are remembered, want 8", n)
	}
	for id, status := range map[string]string{running: "running", last: "completed"} {
		if r := want[rest.Execution](x, 200, "GET", "/v1/boxes/"+b+"/executions/"+id, ""); r.Status != status {
			t.Errorf("%s: got %+v, want %s", id, r, status)
		}
	}
}

// output is what a command wrote, followed without the server.
type output struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed sync.Cond
	ended   chan error
}

// watch follows an execution without the server.
func (x *site) watch(box, id string) *output {
	b, err := x.rt.Box(x.t.Context(), box)
	if err != nil {
		x.t.Fatal(err)
	}
	o := &output{ended: make(chan error, 1)}
	o.changed.L = &o.mu
	cmd := b.Attach(x.t.Context(), id, boxlite.AttachOptions{Lossy: true})
	cmd.Stdout = o
	if err := cmd.Start(); err != nil {
		x.t.Fatal(err)
	}
	go func() { o.ended <- cmd.Wait() }()
	return o
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.changed.Broadcast()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// until waits for output that ends so.
func (o *output) until(end string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !strings.HasSuffix(o.buf.String(), end) {
		o.changed.Wait()
	}
}
