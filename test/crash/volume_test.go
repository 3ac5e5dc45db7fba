package crash

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestKilledBoxWithVolumes kills each of its processes while it writes. All
// of them end, what was written stays, and the box starts again.
func TestKilledBoxWithVolumes(t *testing.T) {
	rt, _ := boxtest.New(t, boxtest.Alpine)
	for name, find := range map[string]func(testing.TB, *boxlite.Box) int{
		"gofer":  boxtest.Gofer,
		"sentry": boxtest.Machine,
		"shim": func(tb testing.TB, b *boxlite.Box) int {
			info, err := b.Info(tb.Context())
			if err != nil {
				tb.Fatal(err)
			}
			return info.PID
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			b := boxtest.Box(t, rt, boxlite.BoxOptions{Detach: true, Volumes: []boxlite.Volume{{Host: dir, Guest: "/v"}}})
			boxtest.Sh(t, b, "echo done > /v/before")
			pids := []int{boxtest.Gofer(t, b), boxtest.Machine(t, b), find(t, b)}
			c := b.Command(t.Context(), "sh", "-c", "while :; do dd if=/dev/zero of=/v/big bs=1M count=8; rm /v/big; done")
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- c.Wait() }()
			if err := syscall.Kill(pids[2], syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if !errors.Is(err, boxlite.ErrBoxDied) {
					t.Errorf("the command that wrote: got %v, want ErrBoxDied", err)
				}
			case <-time.After(5 * time.Second):
				t.Error("the command that wrote goes on, 5 s after")
			}
			boxtest.Eventually(t, 5*time.Second, "all processes of the box are gone", func() bool {
				return !boxtest.Alive(pids[0]) && !boxtest.Alive(pids[1])
			})
			if got, err := os.ReadFile(filepath.Join(dir, "before")); err != nil || string(got) != "done\n" {
				t.Errorf("what was written before: got %q, %v", got, err)
			}
			boxtest.Eventually(t, 5*time.Second, "the box is known to have failed", func() bool {
				info, err := b.Info(t.Context())
				return err == nil && info.State == boxlite.StateFailed && info.Reason != ""
			})
			if got := boxtest.Sh(t, b, "cat /v/before"); got != "done\n" {
				t.Errorf("after it was started again: got %q", got)
			}
		})
	}
}
