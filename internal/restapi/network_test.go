package restapi

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestFollowedNetworkLogIsLive: who follows the log of a network gets each event,
// not only with the next one.
func TestFollowedNetworkLogIsLive(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	id := x.box()
	want[rest.Box](x, 200, "POST", "/v1/boxes/"+id+"/start", "")
	info, err := x.rt.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(info.Home, "boxes", id, "logs", "network.jsonl")) // as the box's owner does
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, x.http.URL+"/v1/boxes/"+id+"/network/log?follow=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for n := range 3 {
		fmt.Fprintln(file, `{"kind":"dns","name":"one"}`+"\n"+`{"kind":"dns","name":"two"}`)
		for range 2 {
			if !lines.Scan() {
				t.Fatalf("event %d: %v", n, lines.Err())
			}
		}
	}
}
