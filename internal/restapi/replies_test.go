package restapi

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestKeyIsFreeAfterAPanic: a request that ends in a bug does not keep those that
// repeat it waiting.
func TestKeyIsFreeAfterAPanic(t *testing.T) {
	p := newReplies()
	try := func(f func() (*rest.Box, error)) (bug any) {
		defer func() { bug = recover() }()
		if err := p.once(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil), "key", 1, f); err != nil {
			t.Error(err)
		}
		return nil
	}
	if bug := try(func() (*rest.Box, error) { panic("bug") }); bug != "bug" {
		t.Errorf("got %v, want the bug", bug)
	}
	made := false
	try(func() (*rest.Box, error) { made = true; return &rest.Box{}, nil })
	if !made {
		t.Error("the second request made nothing")
	}
}
