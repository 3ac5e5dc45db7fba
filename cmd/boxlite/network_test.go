package main

import (
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

func TestRefusalsSayWhatToDo(t *testing.T) {
	refusal := egress.Verdict{Action: egress.Deny, Rule: egress.BuiltIn, Reason: egress.ReasonPrivate}
	for _, tt := range []struct {
		event egress.Event
		want  string
	}{
		{egress.Event{Verdict: refusal}, "deny: private address (builtin); allow its address, or a prefix of such addresses; a name does not open it"},
		{egress.Event{Verdict: egress.Verdict{Action: egress.Deny, Rule: "a.test", Reason: egress.ReasonRule}}, "deny: denied by a rule (a.test)"},
		{egress.Event{Verdict: egress.Verdict{Action: egress.Allow, Rule: egress.ByDefault}}, "allow (default)"},
		{egress.Event{Closed: true, Sent: 10, Duration: time.Second}, "closed after 1s, sent 10B, received 0B"},
	} {
		if got := outcome(tt.event); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
