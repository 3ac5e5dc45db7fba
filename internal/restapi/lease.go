package restapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/coder/websocket"
)

// leases are the clients whose boxes end with them, as those of a program that
// uses the Go API do. A lease is a WebSocket: when it ends, however that comes,
// the boxes that requests with its name have started are stopped, but for those
// that are detached.
type leases struct {
	mu    sync.Mutex
	boxes map[string]map[string]bool // by lease, of those that are open
	owner map[string]string          // lease by box
}

func newLeases() *leases {
	return &leases{boxes: map[string]map[string]bool{}, owner: map[string]string{}}
}

// maxLeases bounds the clients that hold a socket for nothing but this.
const maxLeases = 4096

func (l *leases) open(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.boxes) >= maxLeases {
		return full("%d leases are open, the most this server has", maxLeases)
	}
	l.boxes[id] = map[string]bool{}
	return nil
}

// close ends a lease and returns its boxes.
func (l *leases) close(id string) map[string]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	boxes := l.boxes[id]
	delete(l.boxes, id)
	for b := range boxes {
		delete(l.owner, b)
	}
	return boxes
}

// own gives a box that was just started to a lease, or to none. It is false
// when the lease has ended.
func (l *leases) own(box, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.boxes[l.owner[box]]; old != nil {
		delete(old, box)
	}
	delete(l.owner, box)
	if id == "" {
		return true
	}
	if l.boxes[id] == nil {
		return false
	}
	l.boxes[id][box], l.owner[box] = true, id
	return true
}

type leaseKey struct{}

// withLease puts the lease that a request names into its context.
func withLease(r *http.Request) *http.Request {
	id := r.Header.Get(rest.LeaseHeader)
	if id == "" {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), leaseKey{}, id))
}

func leaseOf(ctx context.Context) string {
	id, _ := ctx.Value(leaseKey{}).(string)
	return id
}

// hold lets a box that the request has started end with the client's lease. A
// box that is detached outlives it, unless the client runs its main command. The
// box runs by now, so a client that hangs up does not keep it from being held.
func (s *Server) hold(ctx context.Context, b *boxlite.Box, foreground bool) error {
	ctx = context.WithoutCancel(ctx)
	id := leaseOf(ctx)
	if id != "" && !foreground {
		info, err := b.Info(ctx)
		if err != nil {
			s.release(map[string]bool{b.ID(): true})
			return err
		}
		if info.Options.Detach {
			id = ""
		}
	}
	if s.leases.own(b.ID(), id) {
		return nil
	}
	s.release(map[string]bool{b.ID(): true})
	return httpapi.InvalidState.Errorf("%s: the lease has ended, and box %q with it", rest.LeaseHeader, b.ID())
}

// release stops the boxes of a client that is gone, side by side.
func (s *Server) release(boxes map[string]bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), removeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for id := range boxes {
		wg.Go(func() {
			b, err := s.rt.Box(ctx, id)
			if err == nil {
				err = s.stop(ctx, b, removeTimeout/2) // it takes twice that at most
			}
			if err != nil && httpapi.ErrorOf(err).Kind != httpapi.NotFound {
				s.log.Warn("box of a client that is gone not stopped", slog.String("box", id), slog.Any("err", err))
			}
		})
	}
	wg.Wait()
}

// lease serves one. The client sends anything to end it, and waits for the
// socket to close, which it does when the boxes have stopped.
func (s *Server) lease(w http.ResponseWriter, r *http.Request) error {
	if err := wantUpgrade(w, r, "a lease"); err != nil {
		return err
	}
	id := rand.Text()
	if err := s.leases.open(id); err != nil {
		return err
	}
	defer s.leases.close(id)
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil { // it has been answered
		return nil //nolint:nilerr // see above
	}
	defer conn.CloseNow() //nolint:errcheck // closed in order before, where that was possible
	s.attend(conn, id)
	if s.ctx.Err() == nil { // otherwise the end of the server has stopped them
		s.release(s.leases.close(id))
	}
	_ = conn.Close(websocket.StatusNormalClosure, "") // the client may be gone
	return nil
}

// attend returns when a client is gone or says that it goes.
func (s *Server) attend(conn *websocket.Conn, id string) {
	ctx, cancel := context.WithCancel(s.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	hello, _ := json.Marshal(rest.Lease{Lease: id}) // a string cannot fail
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return
	}
	wg.Go(func() { // ends with ctx
		t := time.NewTicker(pingEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				ping, stop := context.WithTimeout(ctx, pingTimeout)
				err := conn.Ping(ping)
				stop()
				if err != nil {
					cancel()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	_, _, _ = conn.Read(ctx) // whatever it is, it is the end
}
