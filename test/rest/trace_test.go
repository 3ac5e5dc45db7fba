package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite/test/boxtest"
)

// collected is a span as a collector has got it.
type collected struct {
	TraceID  string `json:"traceId"`
	SpanID   string `json:"spanId"`
	ParentID string `json:"parentSpanId"`
	Name     string `json:"name"`
	Start    int64  `json:"startTimeUnixNano,string"`
	End      int64  `json:"endTimeUnixNano,string"`
}

// collector is an OTLP collector that keeps what it gets.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []collected
	names map[string]bool // of services
}

func newCollector(t *testing.T) *collector {
	c := &collector{names: map[string]bool{}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var b struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes []struct {
					Key   string
					Value struct{ StringValue string }
				}
			}
			ScopeSpans []struct{ Spans []collected }
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(r.URL, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, res := range b.ResourceSpans {
		for _, a := range res.Resource.Attributes {
			if a.Key == "service.name" {
				c.names[a.Value.StringValue] = true
			}
		}
		for _, s := range res.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
}

// find is the first span of a name below parent; an empty parent is any.
func (c *collector) find(t *testing.T, name, parent string) collected {
	t.Helper()
	for _, s := range c.spans {
		if s.Name == name && (parent == "" || s.ParentID == parent) {
			if s.End < s.Start || s.Start == 0 {
				t.Errorf("%s: from %d to %d", name, s.Start, s.End)
			}
			return s
		}
	}
	t.Errorf("no span %q below %q", name, parent)
	return collected{}
}

// TestTraces: what a server does for a request is a trace below the span of
// the client, from the request to the boot of the machine and the command.
func TestTraces(t *testing.T) {
	_, home := boxtest.New(t, boxtest.Alpine)
	c := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	t.Setenv("OTEL_SERVICE_NAME", "boxes-under-test")
	p := startProcess(t, home)
	const trace, client = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	p.header = map[string]string{"Traceparent": "00-" + trace + "-" + client + "-01"}
	var box struct {
		ID string `json:"box_id"`
	}
	p.call("POST", "/v1/boxes", `{"image":"alpine:latest"}`, 201, &box)
	var ex struct {
		ID string `json:"execution_id"`
	}
	p.call("POST", "/v1/boxes/"+box.ID+"/exec", `{"command":"sh","args":["-c","echo hi; exit 3"]}`, 201, &ex)
	output(t, p.attach(box.ID, ex.ID, ""), "")
	p.header = nil
	p.call("GET", "/healthz", "", 200, nil)
	p.call("DELETE", "/v1/boxes/"+box.ID+"?force=true", "", 204, nil)
	// The last spans are sent before the server ends.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	create := c.find(t, "POST /v1/boxes", client)
	c.find(t, "box.create", create.SpanID)
	exec := c.find(t, "POST /v1/boxes/{id}/exec", client)
	c.find(t, "admission.turn", exec.SpanID)
	start := c.find(t, "box.start", exec.SpanID)
	c.find(t, "image.ensure", start.SpanID)
	spawn := c.find(t, "shim.spawn", start.SpanID)
	boot := c.find(t, "machine.boot", spawn.SpanID)
	if boot.Start < spawn.Start || boot.End > spawn.End {
		t.Errorf("the machine boots from %d to %d, outside of the start of its shim, %d to %d", boot.Start, boot.End, spawn.Start, spawn.End)
	}
	command := c.find(t, "exec", exec.SpanID)
	c.find(t, "exec.start", command.SpanID)
	c.find(t, "DELETE /v1/boxes/{id}", "")
	for _, s := range c.spans {
		if below := s.Name != "DELETE /v1/boxes/{id}" && s.Name != "box.remove" && !strings.Contains(s.Name, "attach"); below != (s.TraceID == trace) {
			t.Errorf("%s is in trace %s", s.Name, s.TraceID)
		}
		if strings.Contains(s.Name, "healthz") {
			t.Error("probes are traced")
		}
	}
	if !c.names["boxes-under-test"] || len(c.names) != 1 {
		t.Errorf("services: got %v", c.names)
	}
}

// TestTracesRefused: variables that cannot be followed are told at the start,
// with what to do.
func TestTracesRefused(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
	refusal(t, "http/json", "--port", "0")
	// But not by a server that belongs to a program, whose variables they are.
	cmd := exec.CommandContext(t.Context(), boxtest.CLI(t), "serve", "--home", t.TempDir(), "--until-eof", "--log-format", "text",
		"--socket", filepath.Join(t.TempDir(), "s.sock"))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "no traces") { // its input is at its end
		t.Errorf("with --until-eof: got %v: %s; want a server that says so and ends in order", err, out)
	}
}
