package rest

import (
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestConnect: a connection to a port of a box goes through that of the
// request, both ways, and the document knows of it.
func TestConnect(t *testing.T) {
	s := serve(t, restapi.Config{}, boxtest.Alpine)
	rt, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: s.url, Key: apiKey})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	b, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: boxtest.Alpine})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove(t.Context(), boxlite.RemoveOptions{Force: true})
	if err := b.Command(t.Context(), "nc", "-ll", "-p", "8080", "-e", "cat").Start(); err != nil {
		t.Fatal(err)
	}
	boxtest.Eventually(t, 20*time.Second, "the box answers what it is sent", func() bool {
		conn, err := b.Dial("tcp", "box:8080")
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.WriteString(conn, "echo\n"); err != nil {
			return false
		}
		got := make([]byte, 5)
		_, err = io.ReadFull(conn, got)
		return err == nil && string(got) == "echo\n"
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/boxes/"+b.ID()+"/network/connect?port=8080", nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range map[string]string{"Authorization": "Bearer " + apiKey, "Connection": "Upgrade", "Upgrade": "boxlite-tunnel", "X-Request-Id": "mine"} {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Request-Id"); resp.StatusCode != http.StatusSwitchingProtocols || got != "mine" {
		t.Errorf("got %s with the id %q, want 101 with that of the request", resp.Status, got)
	}
	boxtest.Eventually(t, 20*time.Second, "the judge has seen it", func() bool {
		return !slices.Contains(judge.Unseen(), "GET /v1/boxes/{id}/network/connect")
	})
}
