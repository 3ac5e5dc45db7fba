package main

import (
	"strconv"
	"time"

	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/spf13/cobra"
)

// Defaults of a server on TCP, those of BoxLite's: its clients may vanish for
// good. The programs that a private unix socket is for are here, and may well
// start something and not ask for it for a day.
const (
	reapAfter = 5 * time.Minute
	reapGrace = 30 * time.Second
	lifetime  = 24 * time.Hour
)

// reapFlags say when commands are ended that no client follows.
type reapFlags struct{ after, grace, lifetime string }

func (f *reapFlags) register(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.after, "reap-after", "", "end commands that no client has followed or asked for that long, `DURATION` or never ($BOXLITE_RECONNECT_GRACE; default 5m, or never if only on a unix socket)")
	fl.StringVar(&f.grace, "reap-grace", "", "`DURATION` from SIGHUP to SIGTERM to SIGKILL for those ($BOXLITE_SHUTDOWN_GRACE; default 30s)")
	fl.StringVar(&f.lifetime, "max-lifetime", "", "longest a command may run, `DURATION` or never ($BOXLITE_MAX_SESSION_LIFETIME; default 24h, or never if only on a unix socket)")
}

// reaping is what the flags and variables say, for a server on TCP or not.
func (f *reapFlags) reaping(tcp bool) (r restapi.Reaping, err error) {
	if tcp {
		r = restapi.Reaping{After: reapAfter, Lifetime: lifetime}
	}
	r.Grace = reapGrace
	for _, o := range []struct {
		flag, env, value string
		to               *time.Duration
		never            string
	}{
		{"reap-after", "BOXLITE_RECONNECT_GRACE", f.after, &r.After, ", or never"},
		{"reap-grace", "BOXLITE_SHUTDOWN_GRACE", f.grace, &r.Grace, ""},
		{"max-lifetime", "BOXLITE_MAX_SESSION_LIFETIME", f.lifetime, &r.Lifetime, ", or never"},
	} {
		v := or(o.value, o.env)
		if v == "" {
			continue
		}
		d, ok := reapTime(v)
		if !ok || d == 0 && o.to == &r.Grace {
			return r, usagef("--%s (or $%s) %q: want a time as 90s, 5m or 24h%s", o.flag, o.env, v, o.never)
		}
		*o.to = d
	}
	return r, nil
}

// reapTime reads a time; 0 is never. A bare number is of seconds, as BoxLite's
// server has it.
func reapTime(v string) (time.Duration, bool) {
	if v == "never" {
		return 0, true
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second, n > 0
	}
	d, err := time.ParseDuration(v)
	return d, err == nil && d > 0
}
