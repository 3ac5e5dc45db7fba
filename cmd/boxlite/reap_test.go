package main

import (
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/restapi"
)

// TestReaping: a server on TCP ends what is left alone, a private one does not
// unless it is told to; flags come before variables.
func TestReaping(t *testing.T) {
	tcp := restapi.Reaping{After: 5 * time.Minute, Grace: 30 * time.Second, Lifetime: 24 * time.Hour}
	private := restapi.Reaping{Grace: 30 * time.Second}
	for _, tt := range []struct {
		name  string
		flags reapFlags
		env   [3]string
		tcp   bool
		want  restapi.Reaping // zero: refused
	}{
		{"TCP", reapFlags{}, [3]string{}, true, tcp},
		{"a unix socket alone", reapFlags{}, [3]string{}, false, private},
		{"never", reapFlags{after: "never", lifetime: "never"}, [3]string{}, true, private},
		{"variables", reapFlags{}, [3]string{"90", "1m", "2h"}, false, restapi.Reaping{After: 90 * time.Second, Grace: time.Minute, Lifetime: 2 * time.Hour}},
		{"a flag before a variable", reapFlags{after: "1h"}, [3]string{"never"}, true, restapi.Reaping{After: time.Hour, Grace: tcp.Grace, Lifetime: tcp.Lifetime}},
		{"zero", reapFlags{after: "0"}, [3]string{}, true, restapi.Reaping{}},
		{"negative", reapFlags{lifetime: "-1h"}, [3]string{}, true, restapi.Reaping{}},
		{"no time", reapFlags{}, [3]string{"soon"}, true, restapi.Reaping{}},
		{"no grace", reapFlags{grace: "never"}, [3]string{}, true, restapi.Reaping{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i, name := range []string{"BOXLITE_RECONNECT_GRACE", "BOXLITE_SHUTDOWN_GRACE", "BOXLITE_MAX_SESSION_LIFETIME"} {
				t.Setenv(name, tt.env[i])
			}
			got, err := tt.flags.reaping(tt.tcp)
			if refused := tt.want == (restapi.Reaping{}); refused != (err != nil) || err == nil && got != tt.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}
