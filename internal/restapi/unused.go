package restapi

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/boxlite-go/boxlite"
)

// unused are boxes of a private server that go with it if they never ran. One
// that ran is removed when it stops, by whoever owns it.
type unused struct {
	mu  sync.Mutex
	ids map[string]bool
}

func newUnused() *unused { return &unused{ids: map[string]bool{}} }

func (u *unused) add(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ids[id] = true
}

// forget says that a box has run, or is gone.
func (u *unused) forget(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.ids, id)
}

// remove is called when no request runs any more.
func (u *unused) remove(s *Server) {
	ctx, cancel := context.WithTimeout(context.Background(), removeTimeout)
	defer cancel()
	u.mu.Lock()
	ids := u.ids
	u.ids = nil
	u.mu.Unlock()
	for id := range ids {
		b, err := s.rt.Box(ctx, id)
		if errors.Is(err, boxlite.ErrNotFound) {
			continue
		}
		var info boxlite.BoxInfo
		if err == nil {
			info, err = b.Info(ctx)
		}
		if err == nil && info.State == boxlite.StateConfigured {
			err = b.Remove(ctx, boxlite.RemoveOptions{})
		}
		if err != nil {
			s.log.Warn("unused box not removed", slog.String("box", id), slog.Any("err", err))
		}
	}
}
