package restapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// TestLifetimes: a box that idles is stopped, one that was stopped long enough
// is removed, and one in use is left alone.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	idle, used, kept := x.box(`"auto_stop":60,"auto_delete":100`), x.box(`"auto_stop":60`), x.box()
	for _, id := range []string{idle, used, kept} {
		want[rest.Box](x, 200, "POST", "/v1/boxes/"+id+"/start", "")
	}
	x.attach(used, x.exec(used, "read a"), "")
	status := func(id string) string {
		a := x.do("GET", "/v1/boxes/"+id, "")
		var b rest.Box
		_ = json.Unmarshal(a.body, &b)
		return b.Status
	}
	look := func(after time.Duration) { x.s.life.sweep(t.Context(), time.Now().Add(after)) }
	look(50 * time.Second)
	if got := status(idle); got != "running" {
		t.Errorf("before its time: got %s, want running", got)
	}
	look(100 * time.Second)
	if got := [3]string{status(idle), status(used), status(kept)}; got != [3]string{"stopped", "running", "running"} {
		t.Errorf("idle, used, without terms: got %v", got)
	}
	look(time.Hour)
	if got := [2]string{status(idle), status(kept)}; got != [2]string{"", "running"} {
		t.Errorf("an hour later: got %v", got)
	}
	b := x.box(`"auto_resume":false`)
	x.exec(b, "true")
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/stop", "")
	if a := x.do("POST", "/v1/boxes/"+b+"/exec", `{"command":"true"}`); a.status != 409 {
		t.Errorf("exec in a stopped box that may not resume: got %v, want 409", a)
	}
	if a := x.do("POST", "/v1/boxes/"+b+"/start?implied=true", ""); a.status != 409 {
		t.Errorf("implied start of a stopped box that may not resume: got %v, want 409", a)
	}
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/start", "")
}

// TestStartThatIsImplied starts what an exec would start; to ask for metrics
// starts nothing.
func TestStartThatIsImplied(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	fresh, job := x.box(), x.box(`"cmd":["sleep","1000"]`)
	if m := want[rest.Metrics](x, 200, "GET", "/v1/boxes/"+fresh+"/metrics", ""); m.MemoryBytes != nil {
		t.Errorf("metrics of a box that was not started: got %+v, want no memory", m)
	}
	if b := want[rest.Box](x, 200, "GET", "/v1/boxes/"+fresh, ""); b.Status != "configured" {
		t.Errorf("after its metrics: got %s, want configured", b.Status)
	}
	if b := want[rest.Box](x, 200, "POST", "/v1/boxes/"+fresh+"/start?implied=true", ""); b.Status != "running" {
		t.Errorf("after an implied start: got %s, want running", b.Status)
	}
	if a := x.do("POST", "/v1/boxes/"+job+"/start?implied=true", ""); a.status != 409 {
		t.Errorf("implied start of a job: got %v, want 409", a)
	}
	if b := want[rest.Box](x, 200, "POST", "/v1/boxes/"+job+"/start?implied=0", ""); b.Status != "running" {
		t.Errorf("after the start of a job: got %s, want running", b.Status)
	}
}

// TestGoneBoxesAreForgotten: nothing is kept of a box that removed itself, the
// values of its secrets least of all.
func TestGoneBoxesAreForgotten(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{Private: true})
	_, lease := x.lease()
	secret := `"secrets":[{"name":"TOKEN","value":"very-secret-value","hosts":["api.example.com"]}]`
	job := x.box(`"cmd":["true"],"auto_remove":true`, secret)
	idle, kept := x.box(`"auto_remove":true`), x.box(secret)
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+job+"/start", "", rest.LeaseHeader, lease)
	x.until(job, "gone")
	if err := x.rt.Remove(t.Context(), idle, boxlite.RemoveOptions{}); err != nil { // as another process may
		t.Fatal(err)
	}
	x.s.life.sweep(t.Context(), time.Now())
	for what, known := range map[string][]string{
		"used": slices.Collect(maps.Keys(x.s.life.used)), "vault": slices.Collect(maps.Keys(x.s.vault.values)),
		"mine": slices.Collect(maps.Keys(x.s.admission.mine)), "metrics": slices.Collect(maps.Keys(x.s.metrics.boxes)),
		"unused": slices.Collect(maps.Keys(x.s.unused.ids)), "leases": slices.Collect(maps.Keys(x.s.leases.owner)),
	} {
		if slices.Contains(known, job) || slices.Contains(known, idle) {
			t.Errorf("%s: got %v, want neither %s nor %s", what, known, job, idle)
		}
	}
	if x.s.vault.values[kept]["TOKEN"] == "" {
		t.Error("the secret of a box that is there was forgotten")
	}
}

// TestStopAtOnce: a stop without any time is one all the same.
func TestStopAtOnce(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	x.exec(b, "trap '' TERM; sleep 1000")
	if r := want[rest.Box](x, 200, "POST", "/v1/boxes/"+b+"/stop", `{"timeout_seconds":0}`); r.Status != "stopped" {
		t.Errorf("got %s, want stopped", r.Status)
	}
}

// TestKillAllOfASilentBox: root in a box may stop the agent, which nobody then
// waits for.
func TestKillAllOfASilentBox(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	id := x.box()
	// Not before the agent has said that it started.
	c := x.attach(id, x.exec(id, "read x; kill -STOP $PPID; sleep 1000"), "")
	c.send(websocket.MessageBinary, "\n")
	b, err := x.rt.Box(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*killTimeout)
	defer cancel()
	if killAll(ctx, b); ctx.Err() != nil {
		t.Errorf("it waited for more than %v", 4*killTimeout)
	}
	_ = b.Remove(t.Context(), boxlite.RemoveOptions{Force: true})
}
