package agent

import (
	"math"
	"sync"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// firstRing is the size a ring starts with. Most commands say less.
const firstRing = 4 << 10

// ring keeps the last bytes of one output by offset in the whole output, and
// passes them to readers. One writer, any number of readers.
//
// While a lossless reader is there, what it has not taken is not evicted, and
// the writer waits: this is how a slow reader holds up a command.
type ring struct {
	max int64 // bytes kept at most

	mu      sync.Mutex
	changed sync.Cond // broadcast at each change of what follows
	buf     []byte    // grows to max; byte at offset o is buf[o%len(buf)]
	start   int64     // offsets [start, end) are kept
	end     int64
	sealed  bool // the command has ended
	closed  bool // no more will be written
	dropped bool // the execution is forgotten: writes vanish, reads end
	readers map[*ringReader]struct{}
}

// ringReader is a position in a ring.
type ringReader struct {
	r       *ring
	asked   int64 // where the reader stands; before pos: a gap to tell
	pos     int64 // next byte to hand out
	limit   int64 // where it ends
	lossy   bool
	stopped bool
}

func newRing(limit int64) *ring {
	r := &ring{max: limit, readers: make(map[*ringReader]struct{})}
	r.changed.L = &r.mu
	return r
}

// write appends p. It waits for lossless readers where p would evict what they
// have not read. After drop it discards.
func (r *ring) write(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		room := r.roomLocked()
		for room == 0 && !r.dropped {
			r.changed.Wait()
			room = r.roomLocked()
		}
		if r.dropped {
			return
		}
		n := min(int64(len(p)), room)
		r.growLocked(n)
		if over := r.end + n - r.start - int64(len(r.buf)); over > 0 {
			r.start += over
		}
		r.putLocked(p[:n])
		p = p[n:]
		r.changed.Broadcast()
	}
}

// roomLocked is how many bytes fit before a lossless reader would lose some.
func (r *ring) roomLocked() int64 {
	room := r.max
	for rd := range r.readers {
		if !rd.lossy {
			room = min(room, rd.pos+r.max-r.end)
		}
	}
	return room
}

// growLocked makes the buffer hold n more bytes without eviction, up to max.
func (r *ring) growLocked(n int64) {
	need := r.end - r.start + n
	size := int64(len(r.buf))
	if need <= size || size == r.max {
		return
	}
	size = max(size, firstRing)
	for size < need {
		size *= 2
	}
	size = min(size, r.max)
	grown := make([]byte, size)
	for o := r.start; o < r.end; {
		o += int64(copy(grown[o%size:], r.sliceLocked(o, r.end)))
	}
	r.buf = grown
}

func (r *ring) putLocked(p []byte) {
	for len(p) > 0 {
		n := copy(r.buf[r.end%int64(len(r.buf)):], p)
		r.end += int64(n)
		p = p[n:]
	}
}

// sliceLocked is what is kept of [from, to) up to where the buffer wraps.
func (r *ring) sliceLocked(from, to int64) []byte {
	size := int64(len(r.buf))
	at := from % size
	return r.buf[at:min(size, at+to-from)]
}

// close says that no more will be written.
func (r *ring) close() { r.set(&r.closed) }

// drop frees the content and ends every read and write.
func (r *ring) drop() { r.set(&r.dropped) }

func (r *ring) set(flag *bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*flag = true
	if r.dropped {
		r.buf, r.start = nil, r.end
	}
	r.changed.Broadcast()
}

// size is the memory held, in bytes.
func (r *ring) size() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(len(r.buf))
}

// waitWritten returns when offset to has been written, or never will be.
func (r *ring) waitWritten(to int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.end < to && !r.closed && !r.dropped {
		r.changed.Wait()
	}
}

// seal ends the readers of now at what is written now, and returns that
// offset: the command has ended, what comes later is its strays'.
func (r *ring) seal() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sealed = true
	for rd := range r.readers {
		rd.limit = r.end
	}
	r.changed.Broadcast()
	return r.end
}

// reader adds a reader at offset from, or at the end if that is before.
func (r *ring) reader(from int64, lossy bool) *ringReader {
	r.mu.Lock()
	defer r.mu.Unlock()
	from = min(from, r.end)
	rd := &ringReader{r: r, asked: from, pos: max(from, r.start), limit: math.MaxInt64, lossy: lossy}
	if r.sealed {
		rd.limit = r.end
	}
	r.readers[rd] = struct{}{}
	return rd
}

// stop removes the reader and ends its next. A second call does nothing.
func (rd *ringReader) stop() {
	rd.r.mu.Lock()
	defer rd.r.mu.Unlock()
	rd.stopped = true
	delete(rd.r.readers, rd)
	rd.r.changed.Broadcast()
}

// wait returns when next has something to say.
func (rd *ringReader) wait() {
	r := rd.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for !rd.stopped && !r.dropped && !r.closed && max(rd.pos, r.start) == rd.asked &&
		rd.pos < rd.limit && rd.pos >= r.end {
		r.changed.Wait()
	}
}

// lost reports whether output was forgotten that the reader had not taken.
func (rd *ringReader) lost() bool {
	rd.r.mu.Lock()
	defer rd.r.mu.Unlock()
	return rd.r.dropped && rd.pos < min(rd.r.end, rd.limit)
}

// next copies some output to p. When bytes are missing before it, it returns
// a gap and no bytes. more is false at the end. Call wait before.
func (rd *ringReader) next(p []byte) (n int, gap guest.Gap, more bool) {
	r := rd.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if rd.stopped || r.dropped {
		return 0, gap, false
	}
	rd.pos = max(rd.pos, r.start)
	if rd.asked < rd.pos {
		gap = guest.Gap{From: rd.asked, To: rd.pos}
		rd.asked = rd.pos
		return 0, gap, true
	}
	for to := min(r.end, rd.limit); n < len(p) && rd.pos < to; {
		c := copy(p[n:], r.sliceLocked(rd.pos, to))
		n += c
		rd.pos += int64(c)
	}
	rd.asked = rd.pos
	if n > 0 {
		r.changed.Broadcast()
	}
	return n, gap, n > 0
}

// followed reports whether readers are there.
func (r *ring) followed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.readers) > 0
}
