package telemetry_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/telemetry"
)

// collector takes spans as a real one does.
type collector struct {
	*httptest.Server
	answer func(w http.ResponseWriter, r *http.Request)

	mu       sync.Mutex
	spans    []span
	resource map[string]string
	headers  []http.Header
}

type span struct {
	TraceID  string `json:"traceId"`
	SpanID   string `json:"spanId"`
	ParentID string `json:"parentSpanId"`
	Name     string
	Kind     int
	Start    json.Number `json:"startTimeUnixNano"`
	End      json.Number `json:"endTimeUnixNano"`
	Status   struct {
		Code    int
		Message string
	}
	Attributes []attr
}

type attr struct {
	Key   string
	Value map[string]any
}

func (s span) attr(key string) string {
	for _, a := range s.Attributes {
		for _, v := range a.Value {
			if a.Key == key {
				return fmt.Sprint(v)
			}
		}
	}
	return ""
}

func newCollector(t *testing.T) *collector {
	c := &collector{resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.headers = append(c.headers, r.Header)
	answer := c.answer
	c.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	var b struct {
		ResourceSpans []struct {
			Resource   struct{ Attributes []attr }
			ScopeSpans []struct{ Spans []span }
		}
	}
	if err := json.NewDecoder(body).Decode(&b); err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, fmt.Sprint(r.URL, err), http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, res := range b.ResourceSpans {
		for _, a := range res.Resource.Attributes {
			c.resource[a.Key] = span{Attributes: []attr{a}}.attr(a.Key)
		}
		for _, s := range res.ScopeSpans {
			c.spans = append(c.spans, s.Spans...)
		}
	}
	fmt.Fprint(w, `{"partialSuccess":{}}`)
}

// open opens tracing as the server does, by variables.
func open(t *testing.T, log io.Writer, vars map[string]string) *telemetry.Tracing {
	t.Helper()
	cfg, on, err := telemetry.FromEnv(func(k string) string { return vars[k] })
	if err != nil || !on {
		t.Fatalf("on %t, %v", on, err)
	}
	tr, err := telemetry.Open(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestSpans: a request with a traceparent and the steps below it arrive at a
// collector as one trace, with times, facts and outcomes, and nothing secret.
func TestSpans(t *testing.T) {
	c := newCollector(t)
	t.Setenv("OTEL_SERVICE_NAME", "my-boxes")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.name=other")
	tr := open(t, io.Discard, map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20collector-key,x-tenant=a",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
	})
	r := httptest.NewRequest(http.MethodPost, "/v1/boxes/b1/exec?token=hidden", nil)
	r.Header.Set("Authorization", "Bearer client-key")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	ctx, answered := tr.Request(r, "POST /v1/boxes/{id}/exec", "req-1")
	begin := time.Now().Add(-time.Second)
	within, ended := tr.Step(ctx, "box.start", begin, slog.String("box", "b1"))
	_, inner := tr.Step(within, "exec", time.Now())
	inner(time.Now(), &boxlite.ExitError{Code: 3, Cause: boxlite.CauseExited})
	_, left := tr.Step(within, "exec.attach", time.Now())
	left(time.Now(), fmt.Errorf("nobody is there: %w", context.Canceled))
	ended(begin.Add(500*time.Millisecond), errors.New(strings.Repeat("é", 2000)))
	answered(500, errors.New("it broke"))
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	spans := map[string]span{}
	for _, s := range c.spans {
		spans[s.Name] = s
		if s.TraceID != "0af7651916cd43dd8448eb211c80319c" {
			t.Errorf("%s is in trace %s, not in that of the client", s.Name, s.TraceID)
		}
	}
	req, start, exec := spans["POST /v1/boxes/{id}/exec"], spans["box.start"], spans["exec"]
	if req.ParentID != "b7ad6b7169203331" || start.ParentID != req.SpanID || exec.ParentID != start.SpanID {
		t.Errorf("got parents %q %q %q", req.ParentID, start.ParentID, exec.ParentID)
	}
	if req.Kind != 2 || req.attr("http.response.status_code") != "500" || req.attr("http.route") != "/v1/boxes/{id}/exec" ||
		req.attr("boxlite.request_id") != "req-1" || req.Status.Code != 2 || req.Status.Message != "it broke" {
		t.Errorf("request: got %+v", req)
	}
	if b, _ := start.Start.Int64(); b != begin.UnixNano() || start.attr("boxlite.box") != "b1" || start.Status.Code != 2 || len(start.Status.Message) > 1024 {
		t.Errorf("box.start: got %.300v", start)
	}
	if exec.Status.Code != 0 || exec.attr("boxlite.exit_code") != "3" || spans["exec.attach"].Status.Code != 0 {
		t.Errorf("exec: got %+v, and %+v", exec, spans["exec.attach"])
	}
	if c.resource["service.name"] != "my-boxes" || c.resource["deployment.environment"] != "test" || c.resource["service.version"] == "" {
		t.Errorf("resource: got %v", c.resource)
	}
	if h := c.headers[0]; h.Get("Authorization") != "Bearer collector-key" || h.Get("X-Tenant") != "a" {
		t.Errorf("headers: got %v", h)
	}
	if all := fmt.Sprint(c.spans); strings.Contains(all, "hidden") || strings.Contains(all, "client-key") {
		t.Errorf("the spans tell secrets: %s", all)
	}
}

// TestRetry: a batch that a collector cannot take now is sent again.
func TestRetry(t *testing.T) {
	c := newCollector(t)
	c.answer = func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.answer = nil
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	tr := open(t, io.Discard, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL})
	_, end := tr.Step(t.Context(), "one", time.Now())
	end(time.Now(), nil)
	if err := tr.Close(t.Context()); err != nil || len(c.spans) != 1 {
		t.Errorf("got %v, %v, want one span", c.spans, err)
	}
}

// TestBadCollectors: one that is down, slow, or answers rubbish holds nobody
// up, costs a bounded queue, and is complained of once.
func TestBadCollectors(t *testing.T) {
	var hang chan struct{}
	for _, tt := range []struct {
		name, want string
		answer     func(w http.ResponseWriter, r *http.Request)
	}{
		{"rubbish", "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "}{ rubbish") }},
		{"endless", "", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}},
		{"refuses", "401 Unauthorized", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }},
		{"takes a part", "refuses 7 spans", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"partialSuccess":{"rejectedSpans":"7","errorMessage":"full"}}`)
		}},
		{"leads elsewhere", "307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusTemporaryRedirect)
		}},
		{"hangs", "deadline", func(http.ResponseWriter, *http.Request) {
			<-hang
		}},
		{"down", "refused", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector(t)
			c.answer = tt.answer
			hang = make(chan struct{})
			t.Cleanup(func() { close(hang) }) // before the collector closes
			if tt.answer == nil {
				c.Close()
			}
			var log strings.Builder
			tr := open(t, &log, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"})
			for range 20_000 { // ten times the queue
				_, end := tr.Step(t.Context(), "one", time.Now())
				end(time.Now(), nil)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_ = tr.Close(ctx) // it may be too late for all of them
			if n := strings.Count(log.String(), "not delivered"); tt.want != "" && n != 1 || !strings.Contains(log.String(), tt.want) {
				t.Errorf("complained %d times, want once about %q: %s", n, tt.want, &log)
			}
		})
	}
}

func TestFromEnv(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars string // KEY=value, separated by spaces, without OTEL_
		want string // endpoint, "off", or part of the error
	}{
		{"nothing", "", "off"},
		{"all signals", "EXPORTER_OTLP_ENDPOINT=http://c:4318", "http://c:4318/v1/traces"},
		{"all signals with a path", "EXPORTER_OTLP_ENDPOINT=https://c/otlp/", "https://c/otlp/v1/traces"},
		{"traces", "EXPORTER_OTLP_ENDPOINT=http://x EXPORTER_OTLP_TRACES_ENDPOINT=http://c/here", "http://c/here"},
		{"asked for", "TRACES_EXPORTER=otlp", "http://localhost:4318/v1/traces"},
		{"disabled", "EXPORTER_OTLP_ENDPOINT=http://c SDK_DISABLED=TRUE", "off"},
		{"none", "EXPORTER_OTLP_ENDPOINT=http://c TRACES_EXPORTER=none", "off"},
		{"another exporter", "TRACES_EXPORTER=zipkin", `"zipkin": this server knows otlp`},
		{"protobuf", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_PROTOCOL=http/protobuf", "http://c/v1/traces"},
		{"grpc", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_PROTOCOL=grpc", "4318"},
		{"grpc, but not for traces", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_PROTOCOL=grpc EXPORTER_OTLP_TRACES_PROTOCOL=http/json", "http://c/v1/traces"},
		{"no URL", "EXPORTER_OTLP_ENDPOINT=c:4318", "OTEL_EXPORTER_OTLP_ENDPOINT: give the URL"},
		{"no HTTP", "EXPORTER_OTLP_TRACES_ENDPOINT=ftp://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: give the URL"},
		{"headers", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_HEADERS=a=b,secret", "entry 2 is not KEY=VALUE"},
		{"header of two lines", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_HEADERS=a=b%0Ac", "entry 1 is not KEY=VALUE"},
		{"timeout", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_TIMEOUT=10s", `OTEL_EXPORTER_OTLP_TIMEOUT "10s": give milliseconds`},
		{"compression", "EXPORTER_OTLP_ENDPOINT=http://c EXPORTER_OTLP_TRACES_COMPRESSION=lz4", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vars := map[string]string{}
			for kv := range strings.FieldsSeq(tt.vars) {
				k, v, _ := strings.Cut(kv, "=")
				vars["OTEL_"+k] = v
			}
			c, on, err := telemetry.FromEnv(func(k string) string { return vars[k] })
			got := c.Endpoint
			switch {
			case err != nil && !strings.Contains(err.Error(), tt.want):
				t.Errorf("got %v, want %q", err, tt.want)
			case err != nil:
				return
			case !on:
				got = "off"
			}
			if err == nil && got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestBadFiles: a file for TLS that is wrong is told at once.
func TestBadFiles(t *testing.T) {
	for _, c := range []telemetry.Config{{CAFile: "/dev/null"}, {CAFile: "/no/such/file"}, {CertFile: "/dev/null", KeyFile: "/dev/null"}} {
		if tr, err := telemetry.Open(t.Context(), c, slog.New(slog.DiscardHandler)); err == nil {
			tr.Close(t.Context())
			t.Errorf("%+v: got no error", c)
		}
	}
}
