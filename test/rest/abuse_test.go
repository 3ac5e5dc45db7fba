package rest

import (
	"archive/tar"
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// call makes a request and returns status and body.
func (s *server) call(t testing.TB, method, path string, body io.Reader, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+apiKey)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// create makes a box and returns its id.
func (s *server) create(t testing.TB) string {
	t.Helper()
	status, body := s.call(t, "POST", "/v1/boxes", strings.NewReader(`{"image":"alpine:latest","memory_mib":128}`))
	var box struct {
		ID string `json:"box_id"`
	}
	if err := json.Unmarshal([]byte(body), &box); status != 201 || err != nil {
		t.Fatalf("create: got %d %s", status, body)
	}
	return box.ID
}

func (s *server) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestAbuse: what an enemy sends is bounded and answered, and the others are
// served meanwhile.
func TestAbuse(t *testing.T) {
	s := serve(t, restapi.Config{Limits: restapi.Limits{Upload: 32 << 20}}, boxtest.Alpine)
	box := s.create(t)
	t.Run("a head that never ends", func(t *testing.T) {
		t.Parallel()
		conn := s.dial(t)
		fmt.Fprintf(conn, "GET /v1/boxes HTTP/1.1\r\nHost: localhost\r\n")
		ended := make(chan error, 1)
		go func() { _, err := io.ReadAll(conn); ended <- err }()
		drip := time.NewTicker(200 * time.Millisecond)
		defer drip.Stop()
		for end := time.After(30 * time.Second); ; {
			select {
			case <-ended:
				return
			case <-drip.C:
				fmt.Fprintf(conn, "X-Drip: drop\r\n")
			case <-end:
				t.Fatal("after 30 s the server still waits for the end of the head")
			}
		}
	})
	t.Run("a huge head", func(t *testing.T) {
		t.Parallel()
		conn := s.dial(t)
		go func() {
			fmt.Fprintf(conn, "GET /v1/boxes HTTP/1.1\r\nHost: localhost\r\nX-Huge: ")
			_, _ = io.CopyN(conn, zeroes{}, 1<<20)
		}()
		if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil && !strings.Contains(line, "431") {
			t.Errorf("got %q, %v, want 431", line, err)
		}
	})
	t.Run("a body that is longer than it says", func(t *testing.T) {
		t.Parallel()
		if status, body := s.call(t, "POST", "/v1/boxes", io.LimitReader(zeroes{}, 1<<30)); status != 413 {
			t.Errorf("got %d %s, want 413", status, body)
		}
	})
	t.Run("a tar that never ends", func(t *testing.T) {
		t.Parallel()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.url+"/v1/boxes/"+box+"/files?path=/endless/", endlessTar())
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+apiKey)
		r.Header.Set("Content-Type", "application/x-tar")
		resp, err := http.DefaultClient.Do(r)
		if err != nil { // cut while it was still sent
			return
		}
		defer resp.Body.Close()
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d %s, want 413", resp.StatusCode, b)
		}
	})
	t.Run("a tar that breaks off", func(t *testing.T) {
		t.Parallel()
		const file = "/files?path=/cut/old"
		raw := []string{"Content-Type", "application/octet-stream", "Accept", "application/octet-stream"}
		s.call(t, "PUT", "/v1/boxes/"+box+file, strings.NewReader("old"), raw...)
		conn := s.dial(t)
		fmt.Fprintf(conn, "PUT /v1/boxes/%s/files?path=/cut/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/x-tar\r\nContent-Length: 4000000\r\n\r\n", box, apiKey)
		tw := tar.NewWriter(conn)
		_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "first", Mode: 0o644}) // a server that hangs up answers below
		_ = tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "old", Mode: 0o644, Size: 3000000})
		_, _ = io.CopyN(conn, rand.Reader, 2000000) // more than waits on the way to the box
		conn.(*net.TCPConn).CloseWrite()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.Contains(line, "400") {
			t.Errorf("got %q, want 400", line)
		}
		if _, body := s.call(t, "GET", "/v1/boxes/"+box+file, nil, raw...); body != "old" {
			t.Errorf("the file that was there: got %.100q", body)
		}
		if _, body := s.call(t, "GET", "/v1/boxes/"+box+"/files/list?path=/cut", nil); strings.Count(body, `"name"`) != 2 {
			t.Errorf("left: %s, want first and old", body)
		}
		if status, body := s.call(t, "PUT", "/v1/boxes/"+box+file, strings.NewReader("new"), raw...); status != 204 {
			t.Errorf("again: got %d %s", status, body)
		}
		if _, body := s.call(t, "GET", "/v1/boxes/"+box+file, nil, raw...); body != "new" {
			t.Errorf("the new file: got %.100q", body)
		}
	})
	t.Run("random bytes as a WebSocket", func(t *testing.T) {
		t.Parallel()
		for i := range 20 {
			s.garbage(t, box, i)
		}
	})
	t.Run("a thousand idle sockets", func(t *testing.T) {
		t.Parallel()
		for range 1000 {
			s.dial(t)
		}
		if status, body := s.call(t, "GET", "/v1/boxes", nil); status != 200 {
			t.Errorf("beside them: got %d %s", status, body)
		}
	})
	t.Run("others are served", func(t *testing.T) {
		t.Parallel()
		for range 20 {
			status, body := s.call(t, "POST", "/v1/boxes/"+box+"/exec", strings.NewReader(`{"command":"true"}`))
			if status != 201 {
				t.Errorf("got %d %s", status, body)
			}
		}
	})
}

// garbage upgrades and then speaks no WebSocket.
func (s *server) garbage(t *testing.T, box string, n int) {
	t.Helper()
	status, body := s.call(t, "POST", "/v1/boxes/"+box+"/exec", strings.NewReader(`{"command":"cat"}`))
	var ex struct {
		ID string `json:"execution_id"`
	}
	if err := json.Unmarshal([]byte(body), &ex); status != 201 || err != nil {
		t.Fatalf("exec: got %d %s", status, body)
	}
	conn := s.dial(t)
	fmt.Fprintf(conn, "GET /v1/boxes/%s/executions/%s/attach HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", box, ex.ID, apiKey)
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "101") {
		t.Fatalf("upgrade: got %q, %v", line, err)
	}
	junk := make([]byte, 64+n*50)
	_, _ = rand.Read(junk)
	junk[0] |= 0x70 // reserved bits: no frame of any protocol that was agreed on
	_, _ = conn.Write(junk)
	conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("30 s after bytes that are no frame the socket is open")
	}
	if status, body := s.call(t, "DELETE", "/v1/boxes/"+box+"/executions/"+ex.ID, nil); status != 204 {
		t.Errorf("delete: got %d %s", status, body)
	}
}

// zeroes never ends.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// endlessTar has entries without end, a megabyte each.
func endlessTar() io.Reader {
	r, w := io.Pipe()
	go func() { // ends when the transport closes the reader
		for i := 0; ; i++ {
			if err := writeEntry(w, fmt.Sprintf("f%d", i)); err != nil {
				return
			}
		}
	}()
	return r
}

// TestHundredCreates: a hundred requests at once are all answered.
func TestHundredCreates(t *testing.T) {
	s := serve(t, restapi.Config{}, boxtest.Alpine)
	var mu sync.Mutex
	ids := map[string]bool{}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			id := s.create(t)
			mu.Lock()
			ids[id] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(ids) != 100 {
		t.Errorf("got %d boxes, want 100", len(ids))
	}
	_, body := s.call(t, "GET", "/v1/boxes?pageSize=1000", nil)
	for id := range ids {
		if !strings.Contains(body, id) {
			t.Errorf("box %s is lost", id)
		}
	}
}

// TestSoak: ten minutes of use leave no goroutine, descriptor or memory behind.
func TestSoak(t *testing.T) {
	if !boxtest.Long() {
		t.Skip("needs BOXLITE_TEST_LONG: it takes ten minutes")
	}
	s := serve(t, restapi.Config{}, boxtest.Alpine)
	round := func(until time.Time) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for time.Now().Before(until) {
					s.round(t)
				}
			})
		}
		wg.Wait()
	}
	round(time.Now().Add(30 * time.Second)) // pools and caches fill
	before := takeStock(t)
	round(time.Now().Add(10 * time.Minute))
	var after stock
	boxtest.Eventually(t, time.Minute, "what was used is given back", func() bool {
		after = takeStock(t)
		return after.goroutines <= before.goroutines+10 && after.fds <= before.fds+10
	})
	t.Logf("before %+v, after %+v", before, after)
	// 8 MiB is what sessions of the last minutes and counters may take.
	if after.heap > before.heap+8<<20 {
		t.Errorf("heap: %d bytes before, %d after", before.heap, after.heap)
	}
}

// round is the life of a box.
func (s *server) round(t *testing.T) {
	id := s.create(t)
	for range 5 {
		status, body := s.call(t, "POST", "/v1/boxes/"+id+"/exec", strings.NewReader(`{"command":"sh","args":["-c","echo hello; head -c 300000 /dev/zero"]}`))
		var ex struct {
			ID string `json:"execution_id"`
		}
		if err := json.Unmarshal([]byte(body), &ex); status != 201 || err != nil {
			t.Errorf("exec: got %d %s", status, body)
			return
		}
		if err := s.follow(t.Context(), id, ex.ID); err != nil {
			t.Errorf("follow: %v", err)
		}
	}
	if status, body := s.call(t, "DELETE", "/v1/boxes/"+id+"?force=true", nil); status != 204 {
		t.Errorf("delete: got %d %s", status, body)
	}
}

// stock is what a process holds.
type stock struct {
	goroutines, fds int
	heap            uint64
}

func takeStock(t *testing.T) stock {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return stock{runtime.NumGoroutine(), len(fds), m.HeapAlloc}
}
