package gvisor_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/hostos"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// hi runs a command that says so and returns at its first output.
func hi(b *testing.B, c *guest.Client) {
	b.Helper()
	p, err := c.Start(b.Context(), guest.Command{Args: []string{"/bin/echo", "hi"}})
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var out bytes.Buffer
	if _, err := p.Copy(&out, nil); err != nil || out.String() != "hi\n" {
		b.Fatalf("echo: got %q, want hi (%v)", out.String(), err)
	}
}

// BenchmarkStart is from nothing to the end of a first command; ready is when
// Start returns.
func BenchmarkStart(b *testing.B) {
	testenv.NeedGVisor(b)
	e := gvisor.New(gvisor.Options{CacheDir: b.TempDir()})
	s := spec(b)
	var ready, stopped time.Duration
	for b.Loop() {
		began := time.Now()
		m, err := e.Start(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		ready += time.Since(began)
		hi(b, guest.NewClient(m.Dial))
		b.StopTimer()
		began = time.Now()
		now, cancel := context.WithCancel(b.Context())
		cancel()
		if err := m.Stop(now); err != nil {
			b.Fatal(err)
		}
		stopped += time.Since(began)
		b.StartTimer()
	}
	b.ReportMetric(ready.Seconds()*1000/float64(b.N), "ready-ms/op")
	b.ReportMetric(stopped.Seconds()*1000/float64(b.N), "stop-ms/op")
}

func BenchmarkExecTrue(b *testing.B) {
	testenv.NeedGVisor(b)
	c := guest.NewClient(start(b, spec(b)).Dial)
	for b.Loop() {
		p, err := c.Start(b.Context(), guest.Command{Args: []string{"/bin/true"}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Copy(nil, nil); err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}

// BenchmarkDial is a new stream and one question to the agent.
func BenchmarkDial(b *testing.B) {
	testenv.NeedGVisor(b)
	c := guest.NewClient(start(b, spec(b)).Dial)
	for b.Loop() {
		if _, err := c.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdle reports what boxes that have run a command cost while nothing
// happens: memory of all processes, shared pages counted in parts, and
// processor time.
func BenchmarkIdle(b *testing.B) {
	testenv.NeedGVisor(b)
	const boxes, rest = 5, 2 * time.Second
	var pids []int
	for range boxes {
		m := start(b, spec(b))
		hi(b, guest.NewClient(m.Dial))
		pid := sentry(b, m)
		pids = append(append(pids, pid), hostos.Descendants(pid)...)
	}
	time.Sleep(time.Second) // let them come to rest
	for b.Loop() {
		var used time.Duration
		for _, pid := range pids[:1] {
			used -= hostos.TreeCPU(pid)
		}
		time.Sleep(rest)
		var pss int64
		for _, pid := range pids {
			pss += proportional(b, pid)
		}
		for _, pid := range pids[:1] {
			used += hostos.TreeCPU(pid)
		}
		b.ReportMetric(float64(pss)/boxes/(1<<20), "PSS-MiB/box")
		b.ReportMetric(used.Seconds()/rest.Seconds()*100, "cpu-%/box")
	}
}

// proportional reads the proportional set size of a process, in bytes.
func proportional(tb testing.TB, pid int) int64 {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0 // has ended
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "Pss:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			return n << 10
		}
	}
	return 0
}
