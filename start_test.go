package boxlite_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
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
