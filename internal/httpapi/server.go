package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of a connection before a handler has it.
const (
	// headerTimeout is how long the head of a request may take: a slow line
	// needs a second, a client that drips bytes never ends.
	headerTimeout = 10 * time.Second
	// idleTimeout ends connections that are kept for a request to come. Load
	// balancers commonly keep theirs for a minute.
	idleTimeout = 2 * time.Minute
	// maxHeader bounds the head of a request, in bytes.
	maxHeader = 64 << 10
)

type localKey struct{}

// Local tells whether a request came through the unix socket.
func Local(ctx context.Context) bool {
	local, _ := ctx.Value(localKey{}).(bool)
	return local
}

// Serve serves on all listeners until ctx ends, then lets requests under way
// finish for as long as grace, and closes what is left. It closes the
// listeners. drain, if set, is called when ctx has ended and nothing new is
// accepted; it ends what net/http does not wait for.
func Serve(ctx context.Context, h http.Handler, ls []net.Listener, grace time.Duration, log *slog.Logger, drain func(context.Context)) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, localKey{}, isLocal(c))
		},
	}
	var wg sync.WaitGroup
	failed := make(chan error, len(ls))
	for _, l := range ls {
		wg.Go(func() { // ends with Shutdown
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- srv.Shutdown(end) }() // awaited below
	if drain != nil {
		drain(end)
	}
	if e := <-stopped; e != nil {
		_ = srv.Close() // their time is up
	}
	wg.Wait()
	return err
}
