package bench

import (
	"bufio"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// layers are what a box may have written: its name and how.
var layers = []struct{ name, fill string }{
	{"fresh", "true"},
	{"100MB", "head -c 100000000 /dev/urandom >/big"},
	{"1GB", "head -c 1000000000 /dev/urandom >/big"},
}

// unsaved makes a box with a layer, which nothing saves but the benchmark.
func unsaved(b *testing.B, fill string) *boxlite.Box {
	b.Helper()
	rt, _ := boxtest.New(b, boxtest.Alpine)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine, SaveInterval: -1})
	boxtest.Sh(b, box, fill)
	return box
}

// BenchmarkSave is Sync after a change of 10 MB; gap-ms is the longest time in
// which a command that always writes wrote nothing.
func BenchmarkSave(b *testing.B) {
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			box := unsaved(b, l.fill)
			if err := box.Sync(b.Context()); err != nil {
				b.Fatal(err)
			}
			var all, gaps times
			for b.Loop() {
				b.StopTimer()
				boxtest.Sh(b, box, "head -c 10000000 /dev/urandom >/new")
				gap := longestGap(b, box)
				b.StartTimer()
				began := time.Now()
				if err := box.Sync(b.Context()); err != nil {
					b.Fatal(err)
				}
				all = append(all, time.Since(began))
				b.StopTimer()
				gaps = append(gaps, gap())
				b.StartTimer()
			}
			all.report(b)
			var sum time.Duration
			for _, g := range gaps {
				sum += g
			}
			b.ReportMetric(sum.Seconds()*1000/float64(len(gaps)), "gap-ms")
		})
	}
}

// longestGap watches a command that writes a line each millisecond, until the
// function it returns is called.
func longestGap(b *testing.B, box *boxlite.Box) func() time.Duration {
	b.Helper()
	c := box.Command(b.Context(), "sh", "-c", "while :; do echo; usleep 1000; done")
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	longest := make(chan time.Duration, 1)
	warm := make(chan struct{})
	go func() { // ends with the command
		var most time.Duration
		last := time.Now()
		for n, lines := 0, bufio.NewScanner(out); lines.Scan(); n++ {
			now := time.Now()
			if n > 50 {
				most = max(most, now.Sub(last))
			}
			if n == 50 {
				close(warm)
			}
			last = now
		}
		longest <- most
	}()
	<-warm
	return func() time.Duration {
		_ = c.Kill()
		_ = c.Wait()
		return <-longest
	}
}

// BenchmarkStartSaved is from Start to the first output of a command, in a box
// that has been stopped with a layer. The parts are to be compared.
func BenchmarkStartSaved(b *testing.B) {
	for _, l := range layers {
		b.Run(l.name, func(b *testing.B) {
			box := unsaved(b, l.fill)
			var all times
			for b.Loop() {
				b.StopTimer()
				if err := box.Stop(b.Context()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				began := time.Now()
				if err := box.Start(b.Context()); err != nil {
					b.Fatal(err)
				}
				firstOutput(b, box.Command(b.Context(), "echo", "hi"), func() { all = append(all, time.Since(began)) })
			}
			all.report(b)
		})
	}
}
