package pattern

import (
	"slices"
	"testing"
)

func TestPattern(t *testing.T) {
	p := New(`^([a-z]+)-([0-9]+)$`)
	for s, want := range map[string][]string{"box-12": {"box-12", "box", "12"}, "box": nil, "": nil} {
		if got := p.FindStringSubmatch(s); !slices.Equal(got, want) {
			t.Errorf("submatches of %q: got %q, want %q", s, got, want)
		}
		if got := p.MatchString(s); got != (want != nil) {
			t.Errorf("match of %q: got %v, want %v", s, got, want != nil)
		}
	}
}

// Processes that match nothing must not pay for a pattern.
func TestPatternIsCompiledAtItsFirstUse(t *testing.T) {
	p := New(`(`)
	defer func() {
		if recover() == nil {
			t.Error("first use of a bad pattern: got no panic, want one")
		}
	}()
	p.MatchString("x")
}
