package restapi

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// TestToldWhatIsTaken: a client that is told what its command has been given, and
// keeps to the window, is listened to also while the command does not read; the last
// that it is told is nearly all.
func TestToldWhatIsTaken(t *testing.T) {
	t.Parallel()
	inHall(t, wish{write: true, acks: true}, func(h *hall) {
		h.cmd.listen(false)
		c := h.first()
		var mu sync.Mutex
		var told int64
		var wg sync.WaitGroup
		wg.Go(func() { // ends with the socket
			for {
				_, p, err := c.Read(h.ctx)
				if err != nil {
					return
				}
				var f rest.Frame
				if err := json.Unmarshal(p, &f); err != nil || f.Type != "taken" || f.Bytes <= told {
					t.Errorf("got %s, %v after %d", p, err, told)
				}
				mu.Lock()
				told = f.Bytes
				mu.Unlock()
			}
		})
		for range rest.InputWindow >> 16 {
			if err := c.Write(h.ctx, websocket.MessageBinary, []byte(strings.Repeat("x", 64<<10))); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			if err := c.Ping(h.ctx); err != nil {
				t.Fatalf("while nothing is read: %v", err)
			}
			time.Sleep(time.Hour + time.Second) // not when the server pings: the line in memory holds nothing
		}
		synctest.Wait()
		mu.Lock()
		if told != 0 {
			t.Errorf("before anything was read: told of %d", told)
		}
		mu.Unlock()
		h.cmd.listen(true)
		synctest.Wait()
		mu.Lock()
		if told <= rest.InputWindow-tellEvery {
			t.Errorf("all was read: told of %d, want more than %d", told, rest.InputWindow-tellEvery)
		}
		mu.Unlock()
		c.CloseNow()
		wg.Wait()
	})
}
