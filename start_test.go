package boxlite_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
)

// TestEndedBoxesAreForgotten: a process that starts boxes for months does not
// remember for ever those that ended by themselves, nor does it forget at once how.
func TestEndedBoxesAreForgotten(t *testing.T) {
	t.Parallel()
	hereOnly(t, "it looks into it")
	rt := newRuntime(t)
	for _, o := range []boxlite.BoxOptions{{}, {Cmd: []string{"true"}, AutoRemove: true}} {
		b := newBox(t, rt, o)
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if o.AutoRemove {
			eventually(t, "the job is gone", func() bool {
				_, err := b.Info(t.Context())
				return errors.Is(err, boxlite.ErrNotFound)
			})
		}
	}
	eventually(t, "the end is seen, and remembered", func() bool {
		return boxlite.ForgetEnded(rt, time.Now()) == 2 && boxlite.ForgetEnded(rt, time.Now().Add(time.Hour)) == 1
	})
}

// TestStartAgreesWithItsBox: when a start fails its box does not run, and when it
// succeeds it does, also if ctx ends when the box has just booted.
func TestStartAgreesWithItsBox(t *testing.T) {
	t.Parallel()
	hereOnly(t, "it is told of steps")
	home := home(t, newRuntime(t))
	for _, step := range []string{"image.ensure", "shim.spawn"} {
		ctx, cancel := context.WithCancel(t.Context())
		rt := openWith(t, boxlite.Config{Home: home, Trace: func(ctx context.Context, name string, _ time.Time, _ ...slog.Attr) (context.Context, func(time.Time, error)) {
			return ctx, func(time.Time, error) {
				if name == step {
					cancel()
				}
			}
		}})
		b := newBox(t, rt, boxlite.BoxOptions{})
		err := b.Start(ctx)
		if runs := state(t, b) == boxlite.StateRunning; runs != (err == nil) {
			t.Errorf("ctx ends after %s: Start: got %v, and running is %v", step, err, runs)
		}
	}
}

// TestSetNetworkDuringAStart changes what a box may reach after its start has
// begun, and before there is a shim that could be told.
func TestSetNetworkDuringAStart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		change egress.Policy
		want   error
	}{
		{egress.Policy{Mode: egress.AllowList}, nil},
		{egress.Policy{Mode: egress.Disabled}, boxlite.ErrState},
	} {
		dir := t.TempDir()
		rt, begun, goOn := slowHelper(t, dir)
		b := newBox(t, rt, boxlite.BoxOptions{})
		started := make(chan error, 1)
		go func() { started <- b.Start(t.Context()) }()
		begun()
		if err := b.SetNetwork(t.Context(), tt.change); err != nil {
			t.Fatal(err)
		}
		goOn()
		if err := <-started; !errors.Is(err, tt.want) {
			t.Errorf("%s: start: got %v, want %v", tt.change.Mode, err, tt.want)
		}
		told := func() (changes []string) {
			for e, err := range b.NetworkLog(t.Context(), boxlite.NetworkLogOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				changes = append(changes, string(e.Kind)+" "+e.Rule)
			}
			return changes
		}
		if tt.want == nil { // what the network does is written down a moment later
			eventually(t, "the network is told of the change", func() bool { return slices.Equal(told(), []string{"policy allowlist"}) })
		}
		if info, err := b.Info(t.Context()); err != nil || (info.State == boxlite.StateRunning) != (tt.want == nil) {
			t.Errorf("%s: after the start: got %v, %v", tt.change.Mode, info.State, err)
		}
	}
}

// slowHelper opens a runtime whose shims wait to begin until goOn is called; begun
// waits until one does.
func slowHelper(t *testing.T, dir string) (rt *boxlite.Runtime, begun, goOn func()) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	here, there := filepath.Join(dir, "begun"), filepath.Join(dir, "go-on")
	for _, pipe := range []string{here, there} {
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helper := filepath.Join(dir, "helper")
	script := "#!/bin/bash\necho >" + here + "\nread <" + there + "\nexec -a boxlite-shim " + program + ` "$@"` + "\n"
	if err := os.WriteFile(helper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	rt = newRuntimeWith(t, boxlite.Config{Helper: helper})
	begun = func() { _, _ = os.ReadFile(here) }
	return rt, begun, func() { _ = os.WriteFile(there, []byte("\n"), 0o600) }
}

// TestBoxKeepsNothingOfItsStarter: who reads from a pipe that the starter of a
// box has left open to all it starts need not wait for the end of the box.
func TestBoxKeepsNothingOfItsStarter(t *testing.T) {
	t.Parallel()
	hereOnly(t, "the server starts its boxes")
	rt := newRuntime(t)
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil { // not closed on exec
		t.Fatal(err)
	}
	syscall.CloseOnExec(fds[0])
	r, w := os.NewFile(uintptr(fds[0]), "read"), os.NewFile(uintptr(fds[1]), "write")
	defer r.Close()
	b := newBox(t, rt, boxlite.BoxOptions{Detach: true})
	err := b.Start(t.Context())
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { _, err := io.ReadAll(r); ended <- err }() // ends with r at the latest
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("a running box holds the pipe open")
	}
}
