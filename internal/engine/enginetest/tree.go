package enginetest

import (
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest"
)

var treeCases = []testCase{
	on("KillEndsDaemonsToo", testKillTree),
	on("KillEndsStraysOfTheEnded", testKillEnded),
	on("KillLeavesOthersAlone", testKillOthers),
	on("DeadlineEndsTheTree", testDeadline),
	on("DeadlineMetIsNoTimeout", func(t *testing.T, b *box) {
		c := sh("exit 3")
		c.Timeout = time.Minute
		if x := b.run(t, c).exit; x.Code != 3 || x.Cause != guest.Exited {
			t.Errorf("command within its time: got %+v, want 3, exited", x)
		}
	}),
	on("SignalsArrive", testSignals),
	on("NoZombieStays", testZombies),
	on("ShutdownEndsAll", testShutdown),
}

// family starts children in every way that leaves its parent, and prints their
// pids.
const family = `
(sleep 1001 & echo $!)
setsid sh -c 'echo $$; exec sleep 1002' &
setsid sh -c '(setsid sh -c "echo \$\$; exec sleep 1003" &)' &
(trap '' TERM HUP INT; sh -c 'echo $$; exec sleep 1004' </dev/null 2>/dev/null &)
`

// startFamily returns a running command whose tree has these pids.
func startFamily(t *testing.T, b *box, script string) (*guest.Process, []string) {
	t.Helper()
	p := b.begin(t, sh(script+"wait; sleep 1000"))
	out := newWatch("")
	go p.Copy(out, nil) // ends with the stream, at the latest when the test closes it
	var pids []string
	eventually(t, "four children", func() bool {
		pids = strings.Fields(out.String())
		return len(pids) == 4
	})
	return p, pids
}

// alive lists those of pids that the box still runs. A zombie is not running.
func (b *box) alive(t *testing.T, pids []string) string {
	t.Helper()
	return b.output(t, `for p in `+strings.Join(pids, " ")+`; do
		[ -e /proc/$p/stat ] || continue
		read -r line < /proc/$p/stat || continue
		case "${line##*) }" in Z*) ;; *) printf "$p " ;; esac
	done`)
}

func (b *box) wantDead(t *testing.T, pids []string) {
	t.Helper()
	eventually(t, "the whole tree is gone", func() bool { return b.alive(t, pids) == "" })
}

func testKillTree(t *testing.T, b *box) {
	p, pids := startFamily(t, b, family)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wantDead(t, append(pids, itoa(int64(p.PID()))))
	q, err := b.Attach(t.Context(), p.ID(), guest.AttachOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if x := finish(t, q).exit; x.Code != 137 || x.Signal != 9 || !x.Killed || x.Cause != guest.Signaled {
		t.Errorf("exit after Kill: got %+v, want 137, signal 9, killed", x)
	}
}

func testKillEnded(t *testing.T, b *box) {
	r := b.begin(t, sh(family+"sleep 0.2; exit 0"))
	pids := strings.Fields(finish(t, r).out)
	if len(pids) != 4 || b.alive(t, pids) == "" {
		t.Fatalf("children of an ended command: got %q, want four alive", pids)
	}
	if err := r.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wantDead(t, pids)
}

func testKillOthers(t *testing.T, b *box) {
	other := b.begin(t, guest.Command{Args: []string{"sleep", "1000"}})
	p, pids := startFamily(t, b, family)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	b.wantDead(t, pids)
	if b.alive(t, []string{itoa(int64(other.PID()))}) == "" {
		t.Error("another command after Kill: gone, want it alive")
	}
}

func testDeadline(t *testing.T, b *box) {
	c := sh(family + "sleep 1000")
	c.Timeout = time.Second
	began := time.Now()
	p := b.begin(t, c)
	r := finish(t, p)
	if d := time.Since(began); d < time.Second || d > 15*time.Second {
		t.Errorf("deadline of 1 s: ended after %v", d)
	}
	if r.exit.Code != 137 || r.exit.Cause != guest.TimedOut || r.exit.Killed {
		t.Errorf("exit: got %+v, want 137, timeout, not by request", r.exit)
	}
	b.wantDead(t, strings.Fields(r.out))
}

func testSignals(t *testing.T, b *box) {
	p := b.begin(t, sh(`trap 'echo usr1' USR1; trap 'echo term; exit 6' TERM; echo ready; while :; do sleep 0.05; done`))
	out := newWatch("ready")
	exit := make(chan guest.Exit, 1)
	go func() { // ends with the command
		x, err := p.Copy(out, nil)
		if err != nil {
			t.Errorf("Copy: %v", err)
		}
		exit <- x
	}()
	await(t, "the command is ready", out.seen)
	if err := p.Signal(10); err != nil {
		t.Fatal(err)
	}
	await(t, "usr1", out.next("usr1"))
	if err := b.Signal(t.Context(), p.ID(), 15); err != nil {
		t.Fatal(err)
	}
	if x := await(t, "the exit", exit); x.Code != 6 || x.Signal != 0 || x.Killed {
		t.Errorf("exit of a command that handles TERM: got %+v, want 6 by itself", x)
	}
	self := b.begin(t, sh(`trap '' WINCH; echo ready; sleep 0.1; kill -SEGV $$`))
	self.Signal(28)
	if x := finish(t, self).exit; x.Signal != 11 || x.Killed {
		t.Errorf("exit of a command that ends itself after another signal: got %+v, want 11, not by request", x)
	}
	if err := p.Signal(15); err != nil {
		t.Errorf("signal to an ended command: got %v, want nil", err)
	}
	wantKind(t, "signal 0", p.Signal(0), guest.KindInvalid)
	wantKind(t, "signal 65", p.Signal(65), guest.KindInvalid)

	q := b.begin(t, guest.Command{Args: []string{"sleep", "1000"}})
	if err := q.Signal(15); err != nil {
		t.Fatal(err)
	}
	if x := finish(t, q).exit; x.Code != 143 || x.Signal != 15 || !x.Killed {
		t.Errorf("exit after TERM: got %+v, want 143 by request", x)
	}
}

// testZombies leaves many orphans for the agent to reap.
func testZombies(t *testing.T, b *box) {
	b.output(t, `i=0; while [ $i -lt 50 ]; do (sh -c 'exit 1' &); i=$((i+1)); done`)
	eventually(t, "every orphan is reaped", func() bool {
		return b.output(t, `me=$PPID; for s in /proc/[0-9]*/stat; do
			read -r line < $s 2>/dev/null || continue
			rest="${line##*) }"
			case "$rest" in "Z $me "*) echo zombie ;; esac
		done`) == ""
	})
}

func testShutdown(t *testing.T, b *box) {
	b.mkdir(t, "/work")
	polite := b.begin(t, guest.Command{Dir: "/work", Args: []string{
		"sh", "-c",
		`trap 'echo saved > state; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done`,
	}})
	out := newWatch("ready")
	exit := make(chan error, 1)
	go func() { // ends with the command
		_, err := polite.Copy(out, nil)
		exit <- err
	}()
	await(t, "the command is ready", out.seen)
	_, pids := startFamily(t, b, family)
	if err := b.Shutdown(t.Context(), 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	_, err := b.Start(t.Context(), guest.Command{Args: []string{"true"}})
	wantKind(t, "start after Shutdown", err, guest.KindStopping)
	if err := await(t, "the exit", exit); err != nil {
		t.Errorf("Copy: %v", err)
	}
	if got := out.String(); !strings.HasSuffix(got, "bye\n") {
		t.Errorf("output at SIGTERM: got %q, want bye", got)
	}
	if got := b.read(t, "/work/state"); got != "saved\n" {
		t.Errorf("what a command does at SIGTERM: got %q, want saved", got)
	}
	all, err := b.Executions(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		switch {
		case e.Exit == nil:
			t.Errorf("execution after Shutdown: %+v runs", e)
		case e.Exit.Signal != 0 && !e.Exit.Killed:
			t.Errorf("execution after Shutdown: got %+v, want it by request", *e.Exit)
		}
	}
	for _, pid := range pids {
		if _, err := b.Stat(t.Context(), "/proc/"+pid); err == nil {
			t.Errorf("process %s after Shutdown: alive", pid)
		}
	}
}
