package netlab

import (
	_ "embed"
	"encoding/json"
	"errors"
	"testing"

	"github.com/boxlite-go/boxlite"
)

//go:embed probe.py
var probeSource string

// Probe is one attempt on the network by a Python program; probe.py says what
// the operations are and which fields they take.
type Probe struct {
	Op       string   `json:"op"`
	To       string   `json:"to,omitempty"`
	Port     int      `json:"port,omitempty"`
	Say      string   `json:"say,omitempty"`
	Host     string   `json:"host,omitempty"`
	SNI      string   `json:"sni,omitempty"`
	Path     string   `json:"path,omitempty"`
	Labels   []string `json:"labels,omitempty"`
	Type     int      `json:"type,omitempty"`
	Over     string   `json:"over,omitempty"`
	Src      string   `json:"src,omitempty"`
	Proto    string   `json:"proto,omitempty"`
	Protocol int      `json:"protocol,omitempty"`
	Hex      any      `json:"hex,omitempty"` // a string, or several
	Raw      string   `json:"raw,omitempty"`
	Count    int      `json:"count,omitempty"`
	Net      string   `json:"net,omitempty"`
	Batch    int      `json:"batch,omitempty"`
	Limit    float64  `json:"limit,omitempty"` // seconds, where no answer is one too
}

// Result is what became of a [Probe].
type Result struct {
	OK   bool   `json:"ok"`
	Data string `json:"data"`
	Err  string `json:"err"` // the name of an errno, "timeout", or what a server said
}

// Attempt runs probes in a box that has Python, as root, and returns what became
// of each.
func Attempt(tb testing.TB, b *boxlite.Box, probes ...Probe) (rs []Result) {
	tb.Helper()
	out, err := Command(tb, b, probes...).Output()
	if err == nil {
		err = json.Unmarshal(out, &rs)
	}
	if err == nil && len(rs) != len(probes) {
		err = errors.New("results are missing")
	}
	if err != nil {
		if exit, ok := errors.AsType[*boxlite.ExitError](err); ok {
			tb.Logf("%s", exit.Stderr)
		}
		tb.Fatalf("probes: %v\n%s", err, out)
	}
	return rs
}

// Command is the command that makes the probes.
func Command(tb testing.TB, b *boxlite.Box, probes ...Probe) *boxlite.Cmd {
	tb.Helper()
	args, err := json.Marshal(probes)
	if err != nil {
		tb.Fatal(err)
	}
	return b.Command(tb.Context(), "python3", "-c", probeSource, string(args))
}
