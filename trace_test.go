package boxlite_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

// seen is what a tracer was told.
type seen struct {
	mu    sync.Mutex
	steps []*seenStep
}

type seenStep struct {
	name, parent string
	begin, end   time.Time
	err          error
	ends         int
}

type seenKey struct{}

func (s *seen) trace(ctx context.Context, name string, begin time.Time, _ ...slog.Attr) (context.Context, func(time.Time, error)) {
	parent, _ := ctx.Value(seenKey{}).(string)
	step := &seenStep{name: name, parent: parent, begin: begin}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, step)
	return context.WithValue(ctx, seenKey{}, name), func(at time.Time, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		step.end, step.err = at, err
		step.ends++
	}
}

// find returns the first step of a name.
func (s *seen) find(name string) (seenStep, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, step := range s.steps {
		if step.name == name {
			return *step, true
		}
	}
	return seenStep{}, false
}

// TestTracer: what a call makes the runtime do is told as steps below it, each
// with its beginning and one end, the boot in the shim's process included.
func TestTracer(t *testing.T) {
	info, err := newRuntime(t).Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	rt, err := boxlite.Open(t.Context(), boxlite.Config{Home: info.Home, Engine: testEngine(), Trace: s.trace})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	ctx := context.WithValue(t.Context(), seenKey{}, "request")
	b, err := rt.Create(ctx, boxlite.BoxOptions{Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Command(ctx, "sh", "-c", "exit 3").Run(); err == nil {
		t.Fatal("exit 3: got nil")
	}
	if err := b.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(ctx, boxlite.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct{ name, parent string }{
		{"box.create", "request"},
		{"exec", "request"},
		{"exec.start", "exec"},
		{"box.start", "exec"},
		{"image.ensure", "box.start"},
		{"shim.spawn", "box.start"},
		{"machine.boot", "shim.spawn"},
		{"box.stop", "request"},
		{"box.remove", "request"},
	} {
		got, ok := s.find(want.name)
		if !ok || got.parent != want.parent || got.ends != 1 || got.end.Before(got.begin) {
			t.Errorf("%s: got %+v, want one below %q that ended once", want.name, got, want.parent)
		}
	}
	exec, _ := s.find("exec")
	if exit, ok := errors.AsType[*boxlite.ExitError](exec.err); !ok || exit.Code != 3 {
		t.Errorf("exec ended with %v, want exit 3", exec.err)
	}
	spawn, _ := s.find("shim.spawn")
	boot, _ := s.find("machine.boot")
	if boot.begin.Before(spawn.begin) || boot.end.After(spawn.end) {
		t.Errorf("the machine booted from %v to %v, its shim started from %v to %v", boot.begin, boot.end, spawn.begin, spawn.end)
	}
}
