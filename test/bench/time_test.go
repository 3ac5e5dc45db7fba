package bench

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// times are those of single operations, whose spread counts.
type times []time.Duration

// report gives the median and the worst but one percent.
func (t times) report(b *testing.B) {
	slices.Sort(t)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(ms(t[len(t)/2]), "p50-ms")
	b.ReportMetric(ms(t[len(t)*99/100]), "p99-ms")
}

// BenchmarkCreateToFirstOutput is from Create to the first output of a command
// in a new box, its image being there.
func BenchmarkCreateToFirstOutput(b *testing.B) {
	for _, ref := range []string{boxtest.Alpine, boxtest.Python} {
		b.Run(ref, func(b *testing.B) {
			rt, _ := boxtest.New(b, ref)
			var all times
			var created, booted time.Duration
			for b.Loop() {
				began := time.Now()
				box, err := rt.Create(b.Context(), boxlite.BoxOptions{Image: ref})
				if err != nil {
					b.Fatal(err)
				}
				created += time.Since(began)
				if err := box.Start(b.Context()); err != nil {
					b.Fatal(err)
				}
				booted += time.Since(began)
				firstOutput(b, box.Command(b.Context(), "echo", "hi"), func() { all = append(all, time.Since(began)) })
				b.StopTimer()
				if err := box.Remove(b.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
			all.report(b)
			b.ReportMetric(created.Seconds()*1000/float64(b.N), "created-ms")
			b.ReportMetric(booted.Seconds()*1000/float64(b.N), "booted-ms")
		})
	}
}

// firstOutput runs a command and calls seen at its first output.
func firstOutput(b *testing.B, c *boxlite.Cmd, seen func()) {
	b.Helper()
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	seen()
	_ = out.Close()
	if err := c.Wait(); err != nil && c.ID() == "" {
		b.Fatal(err)
	}
}

// BenchmarkCLIRun is the same for the program: from its start to the first
// output of "boxlite run", and to its end.
func BenchmarkCLIRun(b *testing.B) {
	testenv.NeedGVisor(b)
	home, cli := b.TempDir(), boxtest.CLI(b)
	run := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(b.Context(), cli, args...)
		cmd.Env = append(os.Environ(), "BOXLITE_HOME="+home)
		return cmd
	}
	if out, err := run("load", "-i", boxtest.Archive(b, boxtest.Alpine)).CombinedOutput(); err != nil {
		b.Fatalf("load: %v\n%s", err, out)
	}
	var all times
	for b.Loop() {
		began := time.Now()
		cmd := run("run", boxtest.Alpine, "echo", "hi")
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
		if err := cmd.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	all.report(b)
}

// BenchmarkExecTrue is a command that does nothing, in a running box, and as a
// process of the host.
func BenchmarkExecTrue(b *testing.B) {
	b.Run("box", func(b *testing.B) {
		rt, _ := boxtest.New(b, boxtest.Alpine)
		box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
		boxtest.Sh(b, box, "true")
		measure(b, func() error { return box.Command(b.Context(), "true").Run() })
	})
	b.Run("host", func(b *testing.B) {
		measure(b, func() error { return exec.CommandContext(b.Context(), "true").Run() })
	})
}

func measure(b *testing.B, f func() error) {
	b.Helper()
	var all times
	for b.Loop() {
		began := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	all.report(b)
}

// BenchmarkStartsAtOnce creates, uses and removes boxes, all at the same time.
func BenchmarkStartsAtOnce(b *testing.B) {
	const boxes = 24
	rt, _ := boxtest.New(b, boxtest.Alpine)
	failures := 0
	for b.Loop() {
		errs := make(chan error, boxes)
		var wg sync.WaitGroup
		for range boxes {
			wg.Go(func() { errs <- oneOfMany(b, rt) })
		}
		wg.Wait()
		for range boxes {
			if err := <-errs; err != nil {
				failures++
				b.Log(err)
			}
		}
	}
	b.ReportMetric(float64(failures)/float64(b.N), "failures/op")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(b.N)/boxes, "ms/box")
}

func oneOfMany(b *testing.B, rt *boxlite.Runtime) error {
	box, err := rt.Create(b.Context(), boxlite.BoxOptions{Image: boxtest.Alpine})
	if err != nil {
		return err
	}
	out, err := box.Command(b.Context(), "echo", "hi").Output()
	if err == nil && string(out) != "hi\n" {
		err = fmt.Errorf("echo: got %q, want %q", out, "hi\n")
	}
	if e := box.Remove(b.Context(), boxlite.RemoveOptions{Force: true}); err == nil {
		err = e
	}
	return err
}

// BenchmarkStop is an orderly stop of a box that has written a little.
func BenchmarkStop(b *testing.B) {
	rt, _ := boxtest.New(b, boxtest.Alpine)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{Image: boxtest.Alpine})
	var all times
	for b.Loop() {
		b.StopTimer()
		if err := box.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		boxtest.Sh(b, box, "echo hi >/f")
		b.StartTimer()
		began := time.Now()
		if err := box.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Since(began))
	}
	all.report(b)
}
