package restapi

import (
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestWhatIsAbsentSaysSo: a client can tell it from a box that is not there, and
// learns what to do.
func TestWhatIsAbsentSaysSo(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	refused := func(method, path, body string, wantCode, says string) {
		t.Helper()
		a := x.do(method, path, body)
		if code, message := a.fault(); code != wantCode || !strings.Contains(message, says) {
			t.Errorf("%s %s: got %v, want %s that says %q", method, path, a, wantCode, says)
		}
	}
	for _, tt := range []struct{ method, path, body, says string }{
		{"POST", "/snapshots", `{"name":"s"}`, "no snapshots of boxes here; a stopped box keeps its files"},
		{"GET", "/snapshots", "", "no snapshots of boxes"},
		{"GET", "/snapshots/s", "", "no snapshots of boxes"},
		{"DELETE", "/snapshots/s", "", "no snapshots of boxes"},
		{"POST", "/snapshots/s/restore", "", "no snapshots of boxes"},
		{"POST", "/clone", `{"name":"c"}`, "not cloned here; create another from the same image"},
		{"POST", "/export", `{}`, "not exported here; copy files out"},
	} {
		refused(tt.method, "/v1/boxes/"+b+tt.path, tt.body, "unsupported", tt.says)
		refused(tt.method, "/v1/boxes/nosuch"+tt.path, tt.body, "not_found", `no box "nosuch"`)
	}
	refused("POST", "/v1/boxes/import?name=i", strings.Repeat("x", 1<<20), "unsupported", "not imported here; load an image")
	c := want[rest.Config](x, 200, "GET", "/v1/config", "")
	for _, flag := range []string{"snapshots_enabled", "clone_enabled", "export_enabled", "import_enabled"} {
		if c.Capabilities[flag] != false {
			t.Errorf("%s: got %v, want false", flag, c.Capabilities[flag])
		}
	}
}
