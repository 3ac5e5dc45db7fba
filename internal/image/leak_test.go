package image

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestPullsLeaveNothingOpen counts descriptors and goroutines.
func TestPullsLeaveNothingOpen(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 10_000))
	s := testStore(t, linux(Config{}))
	round := func() {
		mustPull(t, s, h.host+"/a:1")
		s.Pull(t.Context(), h.host+"/a:none", PullOptions{Progress: func(Progress) {}})
		s.Remove(t.Context(), h.host+"/a:1", nil)
	}
	count := func() (fds, goroutines int) {
		h.CloseClientConnections()
		for range 100 { // the server's side ends a little later
			e, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Skipf("needs /proc: %v", err)
			}
			fds, goroutines = len(e), runtime.NumGoroutine()
			if goroutines <= 8 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fds, goroutines
	}
	round()
	fds, goroutines := count()
	for range 20 {
		round()
	}
	if f, g := count(); f > fds+5 || g > goroutines+5 {
		t.Errorf("after 20 rounds: got %d descriptors and %d goroutines, want about %d and %d", f, g, fds, goroutines)
	}
}
