package vnet

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// TestNamesAreFitForTheLog promises that a box cannot hide a refusal behind a name
// that is too long to be read, or that plays tricks on a terminal.
func TestNamesAreFitForTheLog(t *testing.T) {
	const readable = 8 << 10 // bytes of a line that readers of the log take
	rule := strings.Repeat("<", 512)
	for name, want := range map[string]string{
		"allowed.test":                         "allowed.test",
		"allowed.test.":                        "allowed.test",
		"a\x00b\x1b[2J\xff":                    `a\x00b\x1b[2J\xff`,
		strings.Repeat("<", 253):               strings.Repeat("<", 253),
		strings.Repeat("x", 100_000):           strings.Repeat("x", 253) + "...",
		"x" + strings.Repeat("\u00e9", 20_000): "x" + strings.Repeat("\u00e9", 126) + "...",
	} {
		var got egress.Event
		r := newRecorder(func(e egress.Event) { got = e })
		r.add(egress.Event{Name: name, Verdict: egress.Verdict{Action: egress.Deny, Rule: rule}})
		r.close()
		if got.Name != want {
			t.Errorf("name of %d bytes: got %q, want %q", len(name), got.Name, want)
		}
		if b, err := json.Marshal(got); err != nil || len(b) > readable {
			t.Errorf("name of %d bytes: a line of %d bytes, %v; want at most %d", len(name), len(b), err, readable)
		}
	}
}
