package boxlite_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

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
