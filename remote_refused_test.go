package boxlite_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
)

// behind returns a handle, through a server, of a box of that options. The server
// refuses paths with that in them.
func behind(t *testing.T, part string, refusal error) (here, there *boxlite.Box) {
	t.Helper()
	hereOnly(t, "it has a server of its own")
	rt := newRuntime(t)
	api := restapi.New(restapi.Config{Runtime: rt})
	t.Cleanup(api.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, part) {
			httpapi.WriteError(w, r, refusal)
			return
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	far, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := far.Close(); err != nil {
			t.Error(err)
		}
	})
	here = newBox(t, rt, boxlite.BoxOptions{})
	if there, err = far.Box(t.Context(), here.ID()); err != nil {
		t.Fatal(err)
	}
	return here, there
}

// TestCommandThatCannotBeFollowed: when a command was started and its socket is
// refused, Start fails and the command ends.
func TestCommandThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	here, there := behind(t, "/attach", httpapi.Exhausted.Errorf("no more sockets"))
	if err := there.Command(t.Context(), "sleep", "1000").Start(); !errors.Is(err, boxlite.ErrExhausted) {
		t.Fatalf("Start: got %v, want ErrExhausted", err)
	}
	eventually(t, "the command has ended", func() bool {
		list, err := here.Executions(t.Context())
		return err == nil && len(list) == 1 && list[0].ExitCode != nil
	})
}

// TestReapedIsNotFound: a command that the server has ended is to its client one
// that is not known any more.
func TestReapedIsNotFound(t *testing.T) {
	t.Parallel()
	_, there := behind(t, "/executions/", httpapi.Reaped.Errorf("it was ended by the server"))
	if _, err := there.Execution(t.Context(), "x"); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("Execution: got %v, want ErrNotFound", err)
	}
	if err := there.Attach(t.Context(), "x").Start(); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("Attach: got %v, want ErrNotFound", err)
	}
}
