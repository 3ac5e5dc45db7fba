package crash

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// size of the tree, and how often its box is killed: what a developer waits
// for, and with BOXLITE_TEST_LONG what is promised.
func size() (files, bigMiB, kills int) {
	if boxtest.Long() {
		return 10000, 1024, 100
	}
	return 1000, 32, 6
}

// script is a program of testdata in a box.
type script struct {
	box  *boxlite.Box
	path string
}

// install puts a program of testdata into the box, and saves it there.
func install(t *testing.T, b *boxlite.Box, name string) script {
	t.Helper()
	if err := b.CopyIn(t.Context(), "testdata/"+name, "/", boxlite.CopyOptions{}); err != nil {
		t.Fatal(err)
	}
	return script{b, "/" + name}
}

// do runs one of its functions and returns what it printed.
func (s script) do(t *testing.T, args ...any) string {
	t.Helper()
	return strings.TrimSpace(boxtest.Sh(t, s.box, "python3 "+s.path+" "+strings.TrimSpace(fmt.Sprintln(args...))))
}

// progress is what a running script has printed, with the time it was seen.
type progress struct {
	seen chan struct{} // closed at the first number
	over chan struct{} // closed when the script has ended
	at   []time.Time   // valid after over
	upTo []int
}

// run starts its function run, which prints numbers until the box dies.
func (s script) run(t *testing.T) *progress {
	t.Helper()
	c := s.box.Command(t.Context(), "python3", s.path, "run")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &progress{seen: make(chan struct{}), over: make(chan struct{})}
	go func() { // ends with the box
		defer close(p.over)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var n int
			if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
				t.Errorf("%s says %q", s.path, lines.Text())
			}
			if p.upTo = append(p.upTo, n); len(p.upTo) == 1 {
				close(p.seen)
			}
			p.at = append(p.at, time.Now())
		}
		_ = c.Wait() // the box was killed
	}()
	return p
}

// before is the last number seen before a moment.
func (p *progress) before(when time.Time) int {
	last := 0
	for i, at := range p.at {
		if at.Before(when) {
			last = p.upTo[i]
		}
	}
	return last
}

// killOne ends a box without a warning, by one of its processes, and says when
// its files were last saved. Of an attached box the caller is killed.
func killOne(t *testing.T, b *boxlite.Box, c *caller, which string) time.Time {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	switch which {
	case "caller":
		c.kill()
	case "shim":
		err = syscall.Kill(info.PID, syscall.SIGKILL)
	case "sentry":
		err = syscall.Kill(boxtest.Machine(t, b), syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	boxtest.Eventually(t, time.Minute, "the box has ended", func() bool {
		info, err = b.Info(t.Context())
		return err == nil && info.State != boxlite.StateRunning && info.State != boxlite.StateStopping
	})
	return info.Saved
}

// start starts the box, by a caller of its own if that is to be killed.
func startFor(t *testing.T, home string, b *boxlite.Box, which string) *caller {
	t.Helper()
	if which != "caller" {
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		return nil
	}
	c := startCaller(t, order{Home: home, Op: "again"})
	if err := c.expect("done"); err != nil {
		t.Fatal(err)
	}
	return c
}

// killed runs a script in a box that is saved often, kills the box at a random
// moment after it was saved with some of what the script did, starts it again
// and looks; all of it many times.
func killed(t *testing.T, home string, s script, kills int, look func(atLeast int)) {
	t.Helper()
	who := []string{"sentry", "shim", "caller"}
	for i := range kills {
		which := who[i%len(who)]
		if err := s.box.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := startFor(t, home, s.box, which)
		p := s.run(t)
		<-p.seen
		began := time.Now()
		boxtest.Eventually(t, time.Minute, "the box is saved while it runs", func() bool {
			info, err := s.box.Info(t.Context())
			return err == nil && info.Saved.After(began) && info.SaveError == ""
		})
		time.Sleep(rand.N(800 * time.Millisecond)) // the moment is what is tested
		saved := killOne(t, s.box, c, which)
		<-p.over
		if err := s.box.Start(t.Context()); err != nil {
			t.Fatalf("kill %d, of the %s: start: %v", i, which, err)
		}
		look(p.before(saved))
	}
}

// savedOften makes a box that is saved twice a second.
func savedOften(t *testing.T, rt *boxlite.Runtime, image string) *boxlite.Box {
	t.Helper()
	return boxtest.Box(t, rt, boxlite.BoxOptions{
		Name: boxName, Image: image, CPUs: 2, MemoryMiB: 1024, SaveInterval: time.Second / 2,
	})
}

// TestSavedTreeSurvivesKills compares the tree after each kill with that of
// another box in which the same steps were taken undisturbed.
func TestSavedTreeSurvivesKills(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Python)
	files, big, kills := size()
	var trees [2]script
	for i, b := range []*boxlite.Box{
		savedOften(t, rt, boxtest.Python),
		boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, CPUs: 2, MemoryMiB: 1024}),
	} {
		trees[i] = install(t, b, "tree.py")
		trees[i].do(t, "build", files, big)
	}
	tree, model := trees[0], trees[1]
	digests := map[int]string{} // of the model, by steps taken
	digest := func(steps int) string {
		if _, ok := digests[steps]; !ok {
			model.do(t, "replay", steps)
			_, digests[steps], _ = strings.Cut(model.do(t, "digest"), " ")
		}
		return digests[steps]
	}
	killed(t, home, tree, kills, func(atLeast int) {
		count, got, _ := strings.Cut(tree.do(t, "digest"), " ")
		var n int
		if _, err := fmt.Sscan(count, &n); err != nil {
			t.Fatal(err)
		}
		if n < atLeast {
			t.Errorf("after a kill: got %d steps, want at least the %d that were seen before the last save", n, atLeast)
		}
		// The step after the one that is counted may have been taken.
		if now, next := digest(n), digest(n+1); got != now && got != next {
			t.Fatalf("tree after a kill at step %d: got %s, want %s or %s", n, got, now, next)
		}
	})
}

// TestTreeSurvivesStops changes a tree between orderly stops.
func TestTreeSurvivesStops(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Python)
	files, big, _ := size()
	tree := install(t, boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python, CPUs: 2, MemoryMiB: 1024}), "tree.py")
	tree.do(t, "build", files, big)
	for i := range 10 {
		tree.do(t, "replay", 50*(i+1))
		want := tree.do(t, "digest")
		if err := tree.box.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := tree.box.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := tree.do(t, "digest"); got != want {
			t.Fatalf("tree after stop and start %d: got %s, want %s", i, got, want)
		}
	}
}

// TestDatabasesSurviveKills has SQLite, with a write-ahead log, and git keep
// what they have committed in the order they did.
func TestDatabasesSurviveKills(t *testing.T) {
	rt, home := boxtest.New(t, boxtest.Dev)
	_, _, kills := size()
	commits := install(t, savedOften(t, rt, boxtest.Dev), "commits.py")
	commits.do(t, "setup")
	killed(t, home, commits, kills, func(atLeast int) {
		var log, rows, head int
		said := commits.do(t, "check")
		if _, err := fmt.Sscan(said, &log, &rows, &head); err != nil {
			t.Fatalf("check: %q, %v", said, err)
		}
		if rows < atLeast || log < rows || log > rows+1 || rows-head > 5 || head > rows {
			t.Errorf("after a kill: got log %d, database %d, git %d; want at least %d, and no more than one apart", log, rows, head, atLeast)
		}
	})
}
