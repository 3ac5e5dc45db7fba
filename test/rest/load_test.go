package rest

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/coder/websocket"
)

// writeEntry writes a file of a megabyte into a tar stream.
func writeEntry(w io.Writer, name string) error {
	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: 1 << 20}); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, zeroes{}, 1<<20); err != nil {
		return err
	}
	return tw.Flush()
}

// follow reads an execution to its end.
func (s *server) follow(ctx context.Context, box, id string) error {
	conn, _, err := websocket.Dial(ctx, s.url+"/v1/boxes/"+box+"/executions/"+id+"/attach",
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {"Bearer " + apiKey}}})
	if err != nil {
		return err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	for exit := false; ; {
		kind, p, err := conn.Read(ctx)
		switch {
		case err != nil && exit:
			return nil
		case err != nil:
			return err
		case kind == websocket.MessageText:
			exit = strings.Contains(string(p), `"exit_code":0`)
		}
	}
}

// BenchmarkExec is a command over HTTP, from the request to the exit on its
// socket: by 50 clients in 10 boxes.
func BenchmarkExec(b *testing.B) {
	const clients, boxes = 50, 10
	s := serve(b, restapi.Config{}, boxtest.Alpine)
	var ids []string
	for range boxes {
		id := s.create(b)
		if status, body := s.call(b, "POST", "/v1/boxes/"+id+"/start", nil); status != 200 {
			b.Fatalf("start: got %d %s", status, body)
		}
		ids = append(ids, id)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	b.ResetTimer()
	for range clients {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				begun := time.Now()
				if err := s.exec(b.Context(), client, ids[n%boxes]); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "p99-ms")
}

// exec runs a command to its end.
func (s *server) exec(ctx context.Context, client *http.Client, box string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/boxes/"+box+"/exec", strings.NewReader(`{"command":"true"}`))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	resp, err := client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var ex struct {
		ID string `json:"execution_id"`
	}
	if err := json.Unmarshal(body, &ex); err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("exec: %d %s", resp.StatusCode, body)
	}
	return s.follow(ctx, box, ex.ID)
}
