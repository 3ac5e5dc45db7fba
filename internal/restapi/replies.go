package restapi

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// Bounds of what is remembered of Idempotency-Key.
const (
	keyLifetime = 24 * time.Hour
	maxReplies  = 10000
	maxKeyLen   = 255
)

// replies remembers what requests with an Idempotency-Key were answered, so
// that one that is repeated does nothing twice. It forgets with the process.
type replies struct {
	mu    sync.Mutex
	byKey map[string]*reply
}

type reply struct {
	body [sha256.Size]byte
	at   time.Time
	done chan struct{} // closed when box is set
	box  *rest.Box     // nil: it failed, and may be tried again
}

func newReplies() *replies { return &replies{byKey: map[string]*reply{}} }

func idempotencyKey(r *http.Request) (string, error) {
	key := r.Header.Get("Idempotency-Key")
	if len(key) > maxKeyLen {
		return "", httpapi.InvalidArgument.Errorf("Idempotency-Key of %d bytes, at most %d", len(key), maxKeyLen)
	}
	return key, nil
}

// once answers with what f made, now or at the first request with the key.
func (p *replies) once(w http.ResponseWriter, r *http.Request, key string, req any, f func() (*rest.Box, error)) error {
	if key == "" {
		box, err := f()
		if err != nil {
			return err
		}
		writeCreated(w, box)
		return nil
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	key = httpapi.Who(r.Context()).Name + "\x00" + key
	for {
		e, first := p.enter(key, sum)
		switch {
		case e.body != sum:
			return httpapi.InvalidArgument.Errorf("Idempotency-Key: was used with another body")
		case first:
			return p.lead(w, key, e, f)
		}
		select {
		case <-e.done:
		case <-r.Context().Done():
			return r.Context().Err()
		}
		if e.box != nil {
			w.Header().Set("Idempotent-Replayed", "true")
			writeCreated(w, e.box)
			return nil
		}
	}
}

func (p *replies) enter(key string, sum [sha256.Size]byte) (e *reply, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.byKey[key]; e != nil {
		return e, false
	}
	if len(p.byKey) >= maxReplies {
		p.evictLocked()
	}
	e = &reply{body: sum, at: time.Now(), done: make(chan struct{})}
	p.byKey[key] = e
	return e, true
}

// lead makes what the key is for. When it fails, however that comes, the key is
// free again.
func (p *replies) lead(w http.ResponseWriter, key string, e *reply, f func() (*rest.Box, error)) error {
	defer close(e.done)
	defer func() {
		if e.box == nil {
			p.free(key, e)
		}
	}()
	box, err := f()
	if err != nil {
		return err
	}
	e.box = box
	writeCreated(w, box)
	return nil
}

func (p *replies) free(key string, e *reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey[key] == e { // else it had to make room
		delete(p.byKey, key)
	}
}

func (p *replies) evictLocked() {
	oldest := ""
	for key, e := range p.byKey {
		if oldest == "" || e.at.Before(p.byKey[oldest].at) {
			oldest = key
		}
	}
	delete(p.byKey, oldest)
}

func (p *replies) sweep(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, e := range p.byKey {
		if now.Sub(e.at) > keyLifetime {
			delete(p.byKey, key)
		}
	}
}

func writeCreated(w http.ResponseWriter, box *rest.Box) {
	w.Header().Set("Location", "/v1/boxes/"+box.BoxID)
	httpapi.WriteJSON(w, http.StatusCreated, box)
}
