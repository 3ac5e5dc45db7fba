package enginetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

var limitCases = []testCase{
	on("OpenFilesHardAndSoft", func(t *testing.T, b *box) {
		c := sh("ulimit -n; ulimit -Hn")
		c.Limits.OpenFiles = 77
		if got := b.run(t, c).out; got != "77\n77\n" {
			t.Errorf("ulimit -n: got %q, want 77 twice", got)
		}
	}),
	on("FileSizeEndsTheWriter", func(t *testing.T, b *box) {
		b.mkdir(t, "/work")
		c := sh("head -c 2000000 /dev/zero > big; echo $?")
		c.Dir, c.Limits.FileSize = "/work", 1<<20
		b.run(t, c)
		if st, err := b.Stat(t.Context(), "/work/big"); err != nil || st.Size() != 1<<20 {
			t.Errorf("file under a limit of 1 MiB: got %d, %v, want 1 MiB", st.Size(), err)
		}
	}),
	on("AddressSpace", func(t *testing.T, b *box) {
		c := sh("ulimit -v; ulimit -Hv")
		c.Limits.AddressSpace = 512 << 20
		if got := b.run(t, c).out; got != "524288\n524288\n" {
			t.Errorf("ulimit -v: got %q, want 524288 twice", got)
		}
	}),
	on("CPUTimeEndsABurner", func(t *testing.T, b *box) {
		c := sh("while :; do :; done")
		c.Limits.CPUTime = 500 * time.Millisecond // a second: the kernel's unit
		if x := b.run(t, c).exit; x.Code != 137 && x.Code != 152 || x.Cause != guest.Signaled {
			t.Errorf("burner with a second of CPU: got %+v, want SIGXCPU or SIGKILL", x)
		}
	}),
	on("LimitsLeaveTheRestAlone", func(t *testing.T, b *box) {
		c := sh("echo $0 $1; cat; exit 5")
		c.Args = append(c.Args, "zero", "one two")
		c.Limits = guest.Limits{OpenFiles: 64, FileSize: 1 << 30, CPUTime: time.Hour}
		r := b.feed(t, c, strings.NewReader("input"))
		if r.out != "zero one two\ninput" || r.errs != "" || r.exit.Code != 5 {
			t.Errorf("command with limits: got %q, %q, %+v", r.out, r.errs, r.exit)
		}
	}),
	on("LimitsEndWithTheCommand", func(t *testing.T, b *box) {
		before := b.output(t, "ulimit -n; ulimit -v")
		c := sh("true")
		c.Limits = guest.Limits{OpenFiles: 64, AddressSpace: 1 << 30}
		b.run(t, c)
		if after := b.output(t, "ulimit -n; ulimit -v"); after != before {
			t.Errorf("limits of the next command: got %q, want %q", after, before)
		}
	}),
	{"CapabilitiesOfRoot", Capabilities, func(t *testing.T, j *judge) {
		j.capabilities(t, j.spec(t), "00000000a80425fb", "yes")
	}},
	{"DroppedCapabilitiesAreGone", Capabilities, func(t *testing.T, j *judge) {
		s := j.spec(t)
		s.DropCapabilities = []string{"CAP_CHOWN", "CAP_NET_RAW"}
		j.capabilities(t, s, "00000000a80405fa", "no")
	}},
	with(Processes, "ProcessesBindRootToo", func(t *testing.T, b *box) {
		c := sh(`i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all`)
		c.Limits.Processes = 20
		p := b.begin(t, c)
		r := finish(t, p)
		if strings.Contains(r.out, "all") && r.errs == "" {
			t.Errorf("40 processes under a limit of 20: got %q, %q, want a refusal", r.out, r.errs)
		}
		p.Kill()
		b.output(t, "true & true & wait") // others are not bound
	}),
	with(Processes, "ForkBombIsContained", func(t *testing.T, b *box) {
		c := sh(`bomb() { bomb | bomb & }; bomb; sleep 1000`)
		c.Limits.Processes, c.Timeout = 50, 2*time.Second
		p := b.begin(t, c)
		if got := b.output(t, "echo alive"); got != "alive" {
			t.Errorf("beside a fork bomb: got %q, want alive", got)
		}
		p.Kill()
		p.Copy(nil, nil)
		eventually(t, "nothing of the bomb is left", func() bool {
			return b.output(t, "set -- /proc/[0-9]*; echo $#") <= "4" // agent, shell and a spare
		})
	}),
}

// capabilities looks at those of commands, and whether they may make user
// namespaces.
func (j *judge) capabilities(t *testing.T, s engine.Spec, root, namespaces string) {
	t.Helper()
	const none = "0000000000000000"
	b := j.boot(t, s)
	for user, want := range map[string][]string{
		"root": {none, root, root, root, none}, "1000": {none, none, none, root, none},
	} {
		c := sh("grep ^Cap /proc/self/status | cut -f2")
		c.User = user
		if got := strings.Fields(b.run(t, c).out); !slices.Equal(got, want) {
			t.Errorf("inheritable, permitted, effective, bounding and ambient of %s: got %q, want %q", user, got, want)
		}
		c = sh("unshare -U true 2>/dev/null && echo yes || echo no")
		c.User = user
		if got := strings.TrimSpace(b.run(t, c).out); got != namespaces {
			t.Errorf("user namespaces of %s: got %s, want %s", user, got, namespaces)
		}
	}
}
