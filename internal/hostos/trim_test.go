package hostos

import (
	"os"
	"strings"
	"testing"
)

func TestTrimLosesNothing(t *testing.T) {
	text := OwnText()
	if len(text.ranges) == 0 {
		t.Fatal("got no ranges, want those of the test binary")
	}
	for range 100 {
		text.Trim()
		done := make(chan string)
		go func() { // a new stack, perhaps a new thread
			b, _ := os.ReadFile("/proc/self/comm")
			done <- strings.ToUpper(string(b))
		}()
		if <-done == "" {
			t.Fatal("got no name")
		}
	}
}
