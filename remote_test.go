package boxlite_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
)

// remoteVar, if set, runs the same tests through a server.
const remoteVar = "BOXLITE_TEST_REMOTE"

func onServer() bool { return os.Getenv(remoteVar) != "" }

// hereOnly skips a test whose promise is about this host, and says why.
func hereOnly(t *testing.T, why string) {
	t.Helper()
	if onServer() {
		t.Skip("needs a runtime of this host: " + why)
	}
}

// serve serves a runtime on a unix socket until the test ends, and returns its
// URL.
func serve(t *testing.T, rt *boxlite.Runtime) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "boxlite") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	socket := filepath.Join(dir, "s")
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: socket, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	srv := restapi.New(restapi.Config{Runtime: rt, Logger: log})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := httpapi.Serve(ctx, srv, ls, 10*time.Second, log, srv.Drain); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		srv.Close()
		os.RemoveAll(dir)
	})
	return "unix://" + socket
}

// connect serves a runtime and returns one that asks the server.
func connect(t *testing.T, rt *boxlite.Runtime) *boxlite.Runtime {
	t.Helper()
	c, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: serve(t, rt)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return c
}
