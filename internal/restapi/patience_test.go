package restapi

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// TestPatience: a client that asked for it may take nothing for so long, and no
// longer.
func TestPatience(t *testing.T) {
	t.Parallel()
	patient := wish{write: true, patience: 10 * time.Minute}
	t.Run("kept", func(t *testing.T) {
		inHall(t, patient, func(h *hall) {
			c := h.first()
			go func() {
				out := &outlet{h.f, rest.Stdout}
				for range 3 {
					_, _ = out.Write([]byte("output"))
				}
				h.exits(h.f, 0)
			}()
			for range 3 {
				time.Sleep(9 * time.Minute)
				if _, p, err := c.Read(h.ctx); err != nil || string(p) != "\x01output" {
					t.Fatalf("got %q, %v", p, err)
				}
			}
			c.CloseNow()
		})
	})
	t.Run("at its end", func(t *testing.T) {
		inHall(t, patient, func(h *hall) {
			h.first()
			go func() { _, _ = (&outlet{h.f, rest.Stdout}).Write([]byte("output")) }()
			time.Sleep(11 * time.Minute)
			synctest.Wait()
			if len(h.x.open()) != 0 {
				t.Error("a client that takes nothing has its socket")
			}
		})
	})
}

// TestPatienceIsBounded: what is no number of seconds is refused, and so is
// more than an hour.
func TestPatienceIsBounded(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	b := x.box()
	id := x.exec(b, "read line")
	for _, bad := range []string{"x", "-1", "3601", "1.5", "99999999999999999999"} {
		if _, resp, err := x.dial(b, id, "?patience="+bad); err == nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("patience=%s was taken", bad)
		}
	}
	x.attach(b, id, "?patience=3600").conn.CloseNow()
}
