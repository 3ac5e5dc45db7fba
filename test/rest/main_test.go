// Package rest drives the REST server on real boxes: with BoxLite's own npm
// client, with curl as the documentation does, and with what an enemy sends.
package rest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/internal/restapi/resttest"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

func TestMain(m *testing.M) {
	boxlite.RunHelper(boxtest.Engine)
	var err error
	if judge, err = resttest.Open(filepath.Join(boxtest.Root(), "api", "openapi.yaml")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	boxtest.Main(m)
}

// judge compares what clients ask and servers answer with the document.
var judge *resttest.Judge

// judged fails the test for what is not as described.
func judged(t testing.TB) {
	for _, f := range judge.Faults() {
		t.Error(f)
	}
}

// apiKey is what the servers of the tests want.
const apiKey = "test-key-0123456789abcdef"

// server is a REST server over a runtime with the images of these names. It
// ends with the test.
type server struct {
	rt   *boxlite.Runtime
	url  string
	rest *restapi.Server
}

func serve(t testing.TB, cfg restapi.Config, refs ...string) *server {
	t.Helper()
	rt, _ := boxtest.New(t, refs...)
	return serveOn(t, rt, cfg)
}

func serveOn(t testing.TB, rt *boxlite.Runtime, cfg restapi.Config) *server {
	t.Helper()
	cfg.Runtime = rt
	if os.Getenv("BOXLITE_DEBUG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	} else {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Keys == nil {
		cfg.Keys = &httpapi.Keys{}
		if err := cfg.Keys.Load(apiKey, ""); err != nil {
			t.Fatal(err)
		}
	}
	srv := restapi.New(cfg)
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Addr: "127.0.0.1:0", Keys: cfg.Keys})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpapi.Serve(ctx, judge.Handler(srv), ls, 30*time.Second, cfg.Logger, srv.Drain) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		srv.Close()
		judged(t)
	})
	return &server{rt: rt, url: "http://" + ls[0].Addr().String(), rest: srv}
}
