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

	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// upload sends a request to a server in memory, in the time of synctest, which reads
// it with read, and then works for longer than a transfer may stand still. It returns
// how the request ended on the server meanwhile.
func upload(t *testing.T, body io.Reader, length int64, read func(body io.Reader)) (ended error) {
	conns := make(chan net.Conn)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read(&progress{rc: http.NewResponseController(w), r: r.Body})
		time.Sleep(2 * stallTimeout)
		ended = context.Cause(r.Context())
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
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://memory/", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	resp, err := (&http.Client{Transport: tr}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return ended
}

// TestWorkAfterAnUpload: what an archive needs after it has come may take longer
// than a transfer may stand still, also if its end is read more than once.
func TestWorkAfterAnUpload(t *testing.T) {
	for name, length := range map[string]int64{"with its length": 7, "in chunks": -1} {
		synctest.Test(t, func(t *testing.T) {
			ended := upload(t, io.MultiReader(strings.NewReader("content")), length, func(body io.Reader) {
				for range 2 {
					if _, err := io.Copy(io.Discard, body); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
			if ended != nil {
				t.Errorf("%s: the request ended with %v", name, ended)
			}
		})
	}
}

// TestUploadThatStands: a body of which nothing comes for a minute is the client's
// fault, and that is said.
func TestUploadThatStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		go func() { _, _ = io.WriteString(w, "the beginning") }() // ends with the reader
		defer r.Close()
		_ = upload(t, r, 1000, func(body io.Reader) {
			_, err := io.Copy(io.Discard, body)
			if e := httpapi.ErrorOf(err); e.Status != http.StatusBadRequest || !strings.Contains(e.Message, "stood still for 1m0s") {
				t.Errorf("got %d %v, want 400 that says why", e.Status, err)
			}
		})
	})
}
