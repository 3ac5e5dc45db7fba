package vnet

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/egress"
)

// TestSecretPrintsNoValue promises that a secret in a log is harmless.
func TestSecretPrintsNoValue(t *testing.T) {
	s := Secret{Name: "KEY", Value: "s3cr3t", Hosts: []string{"api.example.com"}}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v %#v %s %v", s, s, s, []Secret{s}), s.LogValue().String()} {
		if strings.Contains(text, s.Value) || !strings.Contains(text, "KEY") {
			t.Errorf("a secret prints as %q, want its name and not its value", text)
		}
	}
}

// TestPolicyIsChecked promises that a network never runs with a policy that
// contradicts itself.
func TestPolicyIsChecked(t *testing.T) {
	bad := egress.Policy{Mode: "open"}
	if _, err := New(Config{Policy: bad}); !errors.Is(err, egress.ErrPolicy) {
		t.Errorf("New with mode %q: got %v, want ErrPolicy", bad.Mode, err)
	}
}
