package hostos

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestTrimLosesNothing(t *testing.T) {
	text := OwnText()
	if len(text.ranges) == 0 {
		t.Fatal("got no ranges, want those of the test binary")
	}
	here := reflect.ValueOf(findText).Pointer()
	if !slices.ContainsFunc(text.ranges, func(r [2]uintptr) bool { return r[0] <= here && here < r[1] }) {
		t.Error("the ranges do not hold our own code")
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
