package agent

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
)

// drain reads all that a reader gets, and how much it missed.
func drain(rd *ringReader, size int) (got []byte, lost int64) {
	buf := make([]byte, size)
	for {
		rd.wait()
		n, gap, more := rd.next(buf)
		if !more {
			return got, lost
		}
		got = append(got, buf[:n]...)
		lost += gap.To - gap.From
	}
}

func random(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// TestRingLosesNothingToALosslessReader writes at random sizes through rings
// of random sizes, with several readers at once.
func TestRingLosesNothingToALosslessReader(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 0))
		want := random(r, r.IntN(200000))
		ring := newRing(int64(1 + r.IntN(20000)))
		var wg sync.WaitGroup
		for range 1 + r.IntN(3) {
			rd, size := ring.reader(0, false), 1+r.IntN(5000)
			wg.Go(func() {
				defer rd.stop()
				if got, lost := drain(rd, size); !bytes.Equal(got, want) || lost != 0 {
					t.Errorf("seed %d: got %d bytes and a gap of %d, want all %d", seed, len(got), lost, len(want))
				}
			})
		}
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(30000))
			ring.write(rest[:n])
			rest = rest[n:]
		}
		ring.close()
		wg.Wait()
	}
}

// TestRingTellsLossyReadersWhatTheyMissed has readers that never hold up the
// writer: what they get and what they miss make the whole.
func TestRingTellsLossyReadersWhatTheyMissed(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		want := random(r, r.IntN(200000))
		keep := 1 + r.IntN(20000)
		ring := newRing(int64(keep))
		rd := ring.reader(0, true)
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(30000))
			ring.write(rest[:n])
			rest = rest[n:]
		}
		ring.close()
		got, lost := drain(rd, 1+r.IntN(5000))
		tail := want[max(0, len(want)-keep):]
		if !bytes.Equal(got, tail) || lost != int64(len(want)-len(tail)) {
			t.Errorf("seed %d: got %d bytes after a gap of %d, want the last %d of %d", seed, len(got), lost, len(tail), len(want))
		}
		late := ring.reader(int64(len(want)), false)
		if got, lost := drain(late, 100); len(got) != 0 || lost != 0 {
			t.Errorf("seed %d: reader from the end: got %d bytes, gap %d, want none", seed, len(got), lost)
		}
	}
}

func TestRingGrowsWithNeed(t *testing.T) {
	ring := newRing(1 << 20)
	if ring.size() != 0 {
		t.Errorf("new ring: %d bytes, want none", ring.size())
	}
	ring.write([]byte("hello"))
	if ring.size() > firstRing {
		t.Errorf("ring of 5 bytes: %d bytes, want at most %d", ring.size(), firstRing)
	}
	ring.write(make([]byte, 4<<20))
	if ring.size() != 1<<20 {
		t.Errorf("full ring: %d bytes, want %d", ring.size(), 1<<20)
	}
	ring.drop()
	if ring.size() != 0 {
		t.Errorf("dropped ring: %d bytes, want none", ring.size())
	}
}

// TestRingStopsWaiting: whatever waits in a ring ends when its reason does.
func TestRingStopsWaiting(t *testing.T) {
	ring := newRing(10)
	rd := ring.reader(0, false)
	var wg sync.WaitGroup
	wg.Go(func() { ring.write(make([]byte, 100)) }) // waits for rd
	wg.Go(func() { ring.waitWritten(100) })
	rd.stop()
	wg.Wait()

	rd = ring.reader(100, false)
	wg.Go(func() { rd.wait() }) // waits for the writer
	ring.drop()
	wg.Wait()
	ring.write(make([]byte, 100)) // vanishes
	if _, _, more := rd.next(make([]byte, 10)); more {
		t.Error("reader of a dropped ring: got more, want its end")
	}
}

func TestRingSealEndsReadersOfNow(t *testing.T) {
	ring := newRing(100)
	ring.write([]byte("before"))
	now := ring.reader(0, false)
	if end := ring.seal(); end != 6 {
		t.Errorf("seal: got %d, want 6", end)
	}
	ring.write([]byte("after"))
	if got, _ := drain(now, 100); string(got) != "before" {
		t.Errorf("reader from before: got %q, want before", got)
	}
	if got, _ := drain(ring.reader(0, false), 100); string(got) != "beforeafter" {
		t.Errorf("reader from after: got %q, want both", got)
	}
}
