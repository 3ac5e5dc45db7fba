package boxlite_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// endless is input without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestInputThatIsNotTaken: while a command does not read, and the caller takes no
// output, the socket goes on: the client sends what fits in the window and no more,
// answers pings, and sends on when it hears that something was taken.
func TestInputThatIsNotTaken(t *testing.T) {
	t.Parallel()
	goOn := make(chan struct{})
	_, there, _ := behind(t, "/v1/boxes/*/executions/*/attach", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Minute)
		defer cancel()
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(1 << 20)
		var got atomic.Int64
		go func() { // ends with the socket
			for {
				_, p, err := conn.Read(ctx)
				if err != nil {
					return
				}
				got.Add(int64(len(p)))
			}
		}()
		send := func(kind websocket.MessageType, p string) {
			if err := conn.Write(ctx, kind, []byte(p)); err != nil {
				t.Error(err)
			}
		}
		send(websocket.MessageBinary, "\x01ready\n")
		for taken := 0; taken <= 3*rest.InputWindow; taken += rest.InputWindow / 2 {
			send(websocket.MessageText, fmt.Sprintf(`{"type":"taken","bytes":%d}`, taken))
			want := int64(taken + rest.InputWindow)
			eventually(t, "the window is used", func() bool { return got.Load() >= want })
			if err := conn.Ping(ctx); err != nil {
				t.Errorf("ping: %v", err)
			}
			if n := got.Load(); n != want {
				t.Errorf("with %d taken: got %d, want %d", taken, n, want)
			}
		}
		close(goOn)
		send(websocket.MessageText, `{"type":"exit","exit_code":0,"cause":"exited"}`)
		conn.Close(websocket.StatusNormalClosure, "")
	})
	c := there.Command(t.Context(), "true")
	c.Stdin = endless{}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-goOn
	if got, err := io.ReadAll(out); string(got) != "ready\n" || err != nil {
		t.Errorf("output: got %q, %v", got, err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("Wait: %v", err)
	}
}

// TestOutputOfASlowCaller: it is whole, and each stream in order.
func TestOutputOfASlowCaller(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{})
	c := b.Command(t.Context(), "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")
	r, w := io.Pipe()
	c.Stdout, c.Stderr = w, w
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { w.CloseWithError(c.Wait()) }() // ends with the command
	var last [2]int
	for {
		var name string
		var n int
		if _, err := fmt.Fscanf(r, "%s %d\n", &name, &n); err != nil {
			if err != io.EOF {
				t.Fatal(err)
			}
			break
		}
		i := map[string]int{"out": 0, "err": 1}[name]
		if n != last[i] {
			t.Fatalf("%s: got line %d, want %d", name, n, last[i])
		}
		last[i]++
	}
	if last != [2]int{3000, 3000} {
		t.Errorf("got %v lines, want 3000 of each", last)
	}
}
