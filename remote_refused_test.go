package boxlite_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
)

// behind returns a box, a handle of it through a server, and the runtime of that.
// Requests whose path matches a pattern of package path are answered by answer.
func behind(t *testing.T, pattern string, answer http.HandlerFunc) (here, there *boxlite.Box, far *boxlite.Runtime) {
	t.Helper()
	hereOnly(t, "it has a server of its own")
	rt := newRuntime(t)
	api := restapi.New(restapi.Config{Runtime: rt})
	t.Cleanup(api.Close)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ok, _ := path.Match(pattern, r.URL.Path); ok {
			answer(w, r)
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
	return here, there, far
}

// refused answers with an error.
func refused(err error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { httpapi.WriteError(w, r, err) }
}

// TestCommandThatCannotBeFollowed: when a command was started and its socket is
// refused, Start fails and the command ends.
func TestCommandThatCannotBeFollowed(t *testing.T) {
	t.Parallel()
	here, there, _ := behind(t, "/v1/boxes/*/executions/*/attach", refused(httpapi.Exhausted.Errorf("no more sockets")))
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
	_, there, _ := behind(t, "/v1/boxes/*/executions/x", refused(httpapi.Reaped.Errorf("it was ended by the server")))
	if _, err := there.Execution(t.Context(), "x"); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// TestLeaseOfAClosedRuntime: who has found the runtime open a moment before does not
// wait for it for ever.
func TestLeaseOfAClosedRuntime(t *testing.T) {
	t.Parallel()
	_, _, far := behind(t, "none", nil)
	if err := boxlite.Lease(t.Context(), far); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := boxlite.Lease(ctx, far); !errors.Is(err, boxlite.ErrRuntimeClosed) {
		t.Errorf("got %v, want ErrRuntimeClosed", err)
	}
}

// TestListsEnd: a server whose lists have empty pages for ever is not asked for
// ever.
func TestListsEnd(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	endless := func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) > 100 {
			httpapi.WriteError(w, r, httpapi.Internal.Errorf("asked a hundred times"))
			return
		}
		httpapi.WriteJSON(w, http.StatusOK, map[string]string{"next_page_token": "more"})
	}
	_, there, _ := behind(t, "/v1/boxes/*/files/list", endless)
	if _, err := fs.ReadDir(there.FS(t.Context()), "."); err == nil || asked.Swap(0) > 1 {
		t.Errorf("ReadDir: got %v after many pages", err)
	}
	_, _, far := behind(t, "/v1/boxes", endless)
	if _, err := far.Boxes(t.Context()); err == nil || asked.Load() > 1 {
		t.Errorf("Boxes: got %v after %d pages", err, asked.Load())
	}
}
