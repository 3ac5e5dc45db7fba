package restapi

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWorkAfterAnUpload: what an archive needs after it has come may take longer
// than a transfer may stand still, also if its end is read more than once.
func TestWorkAfterAnUpload(t *testing.T) {
	for name, length := range map[string]int64{"with its length": 7, "in chunks": -1} {
		synctest.Test(t, func(t *testing.T) {
			conns := make(chan net.Conn)
			var got error
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body := &progress{rc: http.NewResponseController(w), r: r.Body}
				for range 2 {
					if _, err := io.Copy(io.Discard, body); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				time.Sleep(2 * stallTimeout)
				got = context.Cause(r.Context())
			})}
			l := &memoryListener{conns, make(chan struct{})}
			go func() { _ = srv.Serve(l) }() // ends with Close
			defer srv.Close()
			tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				client, server := net.Pipe()
				conns <- server
				return client, nil
			}}
			defer tr.CloseIdleConnections()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://memory/", io.MultiReader(strings.NewReader("content")))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			resp, err := (&http.Client{Transport: tr}).Do(r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			resp.Body.Close()
			if got != nil {
				t.Errorf("%s: the request ended with %v", name, got)
			}
		})
	}
}
