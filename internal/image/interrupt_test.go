package image

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestInterruptedDownloadGoesOn(t *testing.T) {
	h := newHub(t)
	const size = 400_000
	h.push(t, "a:1", simple(t, "a", size))
	var ranges, sent atomic.Int64
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		if !blobGet(r) {
			return false
		}
		if r.Header.Get("Range") != "" {
			ranges.Add(1)
		}
		next.ServeHTTP(&cutter{ResponseWriter: w, left: 150_000, sent: &sent}, r)
		return true
	})
	s := testStore(t, linux(Config{}))
	im := mustPull(t, s, h.host+"/a:1")
	mustHold(t, im, noiseOf("a", size)[size-1000:])
	if ranges.Load() < 2 || sent.Load() > 2*size {
		t.Errorf("download cut twice: got %d ranges and %d bytes, want at least 2 and about %d", ranges.Load(), sent.Load(), size)
	}
}

// cutter breaks the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int64
	sent *atomic.Int64
}

func (c *cutter) Write(p []byte) (int, error) {
	if int64(len(p)) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		c.sent.Add(c.left)
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	c.sent.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

func TestACancelledPullIsTakenUpByTheNext(t *testing.T) {
	h := newHub(t)
	const size = 400_000
	img := simple(t, "a", size)
	h.push(t, "a:1", img)
	layers, _ := img.Layers()
	big, _ := layers[0].Digest()
	for _, tt := range []struct {
		name   string
		ranges bool // the server knows Range
		spoil  bool // the partial file is damaged meanwhile
	}{{"range", true, false}, {"no range", false, false}, {"damaged", true, true}} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if !strings.Contains(r.URL.Path, big.Hex) {
					return false
				}
				var sent atomic.Int64
				next.ServeHTTP(&hanger{cutter{ResponseWriter: w, left: 200_000, sent: &sent}, r.Context()}, r)
				return true
			})
			s := testStore(t, linux(Config{}))
			wait := make(chan error)
			go func() {
				_, err := s.Pull(ctx, h.host+"/a:1", PullOptions{})
				wait <- err
			}()
			part := s.path("tmp", big.Hex+".part")
			for { // until the first bytes are on disk
				if st, err := os.Stat(part); err == nil && st.Size() >= 100_000 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			cancel()
			if err := <-wait; !errors.Is(err, context.Canceled) {
				t.Fatalf("cancelled pull: got %v", err)
			}
			if images, _ := s.Images(t.Context()); len(images) != 0 {
				t.Errorf("images after a cancelled pull: got %s", refs(images))
			}
			if tt.spoil {
				if err := os.WriteFile(part, []byte(strings.Repeat("x", 150_000)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var sent atomic.Int64
			h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if !strings.Contains(r.URL.Path, big.Hex) {
					return false
				}
				if !tt.ranges {
					r.Header.Del("Range")
				}
				next.ServeHTTP(&cutter{ResponseWriter: w, left: 1 << 40, sent: &sent}, r)
				return true
			})
			again := testStore(t, linux(Config{Dir: s.dir})) // as after a restart
			mustHold(t, mustPull(t, again, h.host+"/a:1"), noiseOf("a", size)[size-1000:])
			if tt.ranges && !tt.spoil && sent.Load() > size-90_000 {
				t.Errorf("bytes sent to the second pull: got %d, want only what was missing", sent.Load())
			}
			mustBeWhole(t, s)
			if got := leftovers(t, s); got != nil {
				t.Errorf("left in tmp: %v", got)
			}
		})
	}
}

// hanger stops sending after some bytes, until the client is gone.
type hanger struct {
	cutter
	ctx context.Context
}

func (h *hanger) Write(p []byte) (int, error) {
	if int64(len(p)) > h.left {
		h.ResponseWriter.Write(p[:h.left])
		h.ResponseWriter.(http.Flusher).Flush()
		<-h.ctx.Done()
		panic(http.ErrAbortHandler)
	}
	h.left -= int64(len(p))
	return h.ResponseWriter.Write(p)
}

func TestAStalledDownloadIsTriedAgain(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 300_000))
	var once sync.Once
	h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		stall := false
		if blobGet(r) {
			once.Do(func() { stall = true })
		}
		if stall {
			var sent atomic.Int64
			next.ServeHTTP(&hanger{cutter{ResponseWriter: w, left: 100, sent: &sent}, r.Context()}, r)
		}
		return stall
	})
	s := testStore(t, linux(Config{}))
	s.stall = 300 * time.Millisecond
	mustPull(t, s, h.host+"/a:1")
}
