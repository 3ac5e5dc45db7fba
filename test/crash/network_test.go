package crash

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestPublishedPortsAreFreeAfterAKill kills the owner and the machine of a box
// with a published port, and starts the box again with the same port.
func TestPublishedPortsAreFreeAfterAKill(t *testing.T) {
	t.Parallel()
	rt, _ := boxtest.New(t, boxtest.Alpine)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := free.Addr().(*net.TCPAddr).Port
	free.Close()
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Alpine, Ports: []boxlite.Port{{HostPort: uint16(port), BoxPort: 80}}})
	for what, victim := range map[string]func() int{
		"owner": func() int {
			info, err := b.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return info.PID
		},
		"machine": func() int { return boxtest.Machine(t, b) },
	} {
		boxtest.Sh(t, b, "true")
		if err := syscall.Kill(victim(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		boxtest.Eventually(t, 10*time.Second, "the port is free after a kill of the "+what, func() bool {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				ln.Close()
			}
			return err == nil
		})
		boxtest.Eventually(t, 10*time.Second, "the box has failed", func() bool {
			info, err := b.Info(t.Context())
			return err == nil && info.State == boxlite.StateFailed && len(info.Ports) == 0
		})
	}
	boxtest.Sh(t, b, "true")
}
