package restapi

import (
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestHealthCheckOfARequest: what is left out has its default, and seconds may
// have parts.
func TestHealthCheckOfARequest(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	for _, tt := range []struct {
		sent string
		want *boxlite.HealthCheck
	}{
		{`{"capabilities":{"add":[],"drop":[]}}`, nil},
		{`{"health_check":{}}`, &boxlite.HealthCheck{Interval: 30 * time.Second, Timeout: 10 * time.Second, StartPeriod: time.Minute, Retries: 3}},
		{
			`{"health_check":{"interval":1.5,"timeout":86400,"retries":100,"start_period":0}}`,
			&boxlite.HealthCheck{Interval: 1500 * time.Millisecond, Timeout: 24 * time.Hour, StartPeriod: -1, Retries: 100},
		},
	} {
		id := x.box(`"advanced":` + tt.sent)
		b, err := x.rt.Box(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		info, err := b.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Options.HealthCheck; (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.sent, got, tt.want)
		}
	}
	for sent, message := range map[string]string{
		`{"interval":0}`:                "advanced.health_check.interval 0: give 1 to 86400 seconds",
		`{"interval":0.5}`:              "advanced.health_check.interval 0.5",
		`{"interval":86401}`:            "advanced.health_check.interval 86401",
		`{"timeout":1e300}`:             "advanced.health_check.timeout 1e+300",
		`{"timeout":-10}`:               "advanced.health_check.timeout -10",
		`{"start_period":-1}`:           "advanced.health_check.start_period -1: give 0 to 86400 seconds",
		`{"start_period":90000}`:        "advanced.health_check.start_period",
		`{"retries":0}`:                 "advanced.health_check.retries 0",
		`{"retries":-1}`:                "retries -1: give 1 to 100",
		`{"retries":101}`:               "retries 101",
		`{"retries":1.5}`:               "retries",
		`{"interval":"30s"}`:            "interval",
		`{"test":["CMD","true"]}`:       `unknown field "test"`,
		`{"interval":1,"every":"hour"}`: `unknown field "every"`,
	} {
		a := x.do("POST", "/v1/boxes", `{"advanced":{"health_check":`+sent+`}}`)
		if code, said := a.fault(); a.status != 400 || code != "invalid_argument" || !strings.Contains(said, message) {
			t.Errorf("%s: got %v, want invalid_argument that says %q", sent, a, message)
		}
	}
}

// TestHealthStatus: every answer with a box has it.
func TestHealthStatus(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	none := rest.HealthStatus{State: "none"}
	for sent, running := range map[string]rest.HealthStatus{
		`"auto_resume":true`:                            none,
		`"advanced":{"health_check":{"interval":3600}}`: {State: "starting"},
	} {
		path := "/v1/boxes/" + x.box(sent)
		if got := want[rest.Box](x, 200, "GET", path, "").Health; got != none {
			t.Errorf("%s, before its start: got %+v, want none", sent, got)
		}
		if got := want[rest.Box](x, 200, "POST", path+"/start", "").Health; got != running {
			t.Errorf("%s, started: got %+v, want %+v", sent, got, running)
		}
		if got := want[rest.Box](x, 200, "GET", path, "").Health; got != running {
			t.Errorf("%s, while it runs: got %+v, want %+v", sent, got, running)
		}
		if got := want[rest.Box](x, 200, "POST", path+"/stop", "").Health; got != none {
			t.Errorf("%s, stopped: got %+v, want none", sent, got)
		}
	}

	path := "/v1/boxes/" + x.box(`"advanced":{"health_check":{"interval":1}}`)
	want[rest.Box](x, 200, "POST", path+"/start", "")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		got := want[rest.Box](x, 200, "GET", path, "").Health
		if got.State == "healthy" && got.Failures == 0 && got.LastCheck != nil && time.Since(*got.LastCheck).Abs() < time.Minute {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("asked each second: got %+v, want healthy, with the time of a check", got)
		}
	}
}
