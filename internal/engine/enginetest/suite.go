package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// Power is a promise that not every engine can keep.
type Power string

// Powers an engine may lack.
const (
	Users     Power = "users"     // commands run as other users of the box
	Isolation Power = "isolation" // the box sees nothing of the host
	Processes Power = "processes" // Limits.Processes holds
	DiskLimit Power = "disk"      // Spec.DiskSize holds
	Memory    Power = "memory"    // Spec.Memory holds and is what the box sees
	CPUs      Power = "cpus"      // Spec.CPUs is what the box sees
	Volumes   Power = "volumes"   // every duty of engine.Volume

	Capabilities Power = "capabilities" // commands have those of the engine's contract, less Spec.DropCapabilities
)

// Options say how to judge an engine.
type Options struct {
	// Rootfs is the EROFS file of an image with a busybox or coreutils: sh,
	// cat, head, seq, sleep, setsid, stty, id and their kin. Empty for an
	// engine that uses the host's.
	Rootfs string
	// Lacks tells for each power the engine lacks, why.
	Lacks map[Power]string
	// DiskSize, Memory and CPUs of the machines; 0: 1 GiB, 512 MiB, 1.
	DiskSize, Memory int64
	CPUs             int
}

// judge is one run of the suite.
type judge struct {
	eng engine.Engine
	o   Options
}

// Run judges an engine by every duty of package engine and every promise of
// the guest protocol. Its test binary must call [HelperMain] first in
// TestMain.
func Run(t *testing.T, eng engine.Engine, o Options) {
	j := &judge{eng: eng, o: o}
	for _, group := range []struct {
		name  string
		cases []testCase
	}{
		{"Machine", machineCases},
		{"Exec", execCases},
		{"Output", outputCases},
		{"Tree", treeCases},
		{"Terminal", ttyCases},
		{"Limits", limitCases},
		{"CopyIn", copyInCases},
		{"CopyOut", copyOutCases},
		{"Files", fileCases},
		{"Volumes", volumeCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) {
					if why, ok := o.Lacks[c.needs]; ok && c.needs != "" {
						t.Skipf("%s has no power %q: %s", eng.Name(), c.needs, why)
					}
					c.run(t, j)
				})
			}
		})
	}
}

// testCase is one promise, named as such.
type testCase struct {
	name  string
	needs Power // empty: every engine
	run   func(t *testing.T, j *judge)
}

// on makes a case out of a test of one running box.
func on(name string, f func(t *testing.T, b *box)) testCase {
	return testCase{name: name, run: func(t *testing.T, j *judge) { f(t, j.start(t)) }}
}

// with is on for a power that an engine may lack.
func with(p Power, name string, f func(t *testing.T, b *box)) testCase {
	c := on(name, f)
	c.needs = p
	return c
}

func (j *judge) spec(t testing.TB) engine.Spec {
	s := engine.Spec{
		ID: "conformance", Hostname: "conformance", Dir: t.TempDir(), Disk: t.TempDir(), Rootfs: j.o.Rootfs,
		DiskSize: j.o.DiskSize, Memory: j.o.Memory, CPUs: j.o.CPUs,
	}
	if s.DiskSize == 0 {
		s.DiskSize = 1 << 30
	}
	if s.Memory == 0 {
		s.Memory = 512 << 20
	}
	if s.CPUs == 0 {
		s.CPUs = 1
	}
	s.ID = "t" + strings.ToLower(strings.TrimLeft(guestID(t), "0"))
	return s
}

// box is a running machine and a client of its agent.
type box struct {
	*guest.Client
	machine engine.Machine
	spec    engine.Spec
	judge   *judge
}

// start boots a machine that ends with the test.
func (j *judge) start(t testing.TB) *box {
	t.Helper()
	return j.boot(t, j.spec(t))
}

func (j *judge) boot(t testing.TB, s engine.Spec) *box {
	t.Helper()
	m, err := j.eng.Start(t.Context(), s)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	b := &box{guest.NewClient(m.Dial), m, s, j}
	t.Cleanup(func() { b.stop(t) })
	return b
}

// stop ends the machine at once and checks what it leaves.
func (b *box) stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // no time for an orderly end
	if err := b.machine.Stop(ctx); err != nil {
		t.Errorf("Stop: got %v, want nil", err)
	}
	if err := b.machine.Err(); err != nil {
		t.Errorf("Err after Stop: got %v, want nil", err)
	}
	left, err := os.ReadDir(b.spec.Dir)
	if err != nil || len(left) > 0 {
		t.Errorf("Spec.Dir after Stop: got %v, %v, want it there and empty", left, err)
	}
}

// result is what a command did.
type result struct {
	out, errs string
	exit      guest.Exit
}

// run runs a command to its end.
func (b *box) run(t testing.TB, c guest.Command) result {
	t.Helper()
	return b.feed(t, c, nil)
}

// feed runs a command with standard input, nil for none.
func (b *box) feed(t testing.TB, c guest.Command, stdin io.Reader) result {
	t.Helper()
	c.Stdin = stdin != nil
	p, err := b.Start(t.Context(), c)
	if err != nil {
		t.Fatalf("start %q: %v", c.Args, err)
	}
	defer p.Close()
	fed := make(chan struct{})
	go func() { // ends with the command at the latest; awaited below
		defer close(fed)
		if stdin != nil {
			io.Copy(p.Stdin(), stdin)
			p.Stdin().Close()
		}
	}()
	r := finish(t, p)
	p.Close()
	<-fed
	return r
}

// finish collects the output of a process until its end.
func finish(t testing.TB, p *guest.Process) result {
	t.Helper()
	var out, errs bytes.Buffer
	x, err := p.Copy(&out, &errs)
	if err != nil {
		t.Fatalf("Copy: %v", err)
	}
	return result{out.String(), errs.String(), x}
}

// sh is a command of the box's shell.
func sh(script string) guest.Command {
	return guest.Command{Args: []string{"sh", "-c", script}, Timeout: time.Minute}
}

// begin starts a command that the test does not wait for.
func (b *box) begin(t testing.TB, c guest.Command) *guest.Process {
	t.Helper()
	p, err := b.Start(t.Context(), c)
	if err != nil {
		t.Fatalf("start %q: %v", c.Args, err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// output is what a script prints; it must succeed.
func (b *box) output(t testing.TB, script string) string {
	t.Helper()
	r := b.run(t, sh(script))
	if r.exit.Code != 0 {
		t.Fatalf("%s: exit %+v, %s%s", script, r.exit, r.out, r.errs)
	}
	return strings.TrimSuffix(r.out, "\n")
}

// eventually asks until the answer is yes. It is for what the box does in its
// own time and tells nobody.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// await receives from ch, within a time that only a broken promise takes.
func await[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
		panic("unreachable")
	}
}

// kindOf is the kind of an agent's error, or what the error is.
func kindOf(err error) guest.Kind {
	var e *guest.Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if err == nil {
		return ""
	}
	return guest.Kind("not an agent's error: " + err.Error())
}

// wantKind checks that err is an agent's error of kind k.
func wantKind(t testing.TB, what string, err error, k guest.Kind) {
	t.Helper()
	if got := kindOf(err); got != k {
		t.Errorf("%s: got %v (%q), want kind %q", what, err, got, k)
	}
}
