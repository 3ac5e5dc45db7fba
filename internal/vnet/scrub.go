package vnet

import (
	"bytes"
	"io"
)

const (
	// scrubSize is how much of a stream is looked at at a time: what one read
	// of a connection yields.
	scrubSize = 32 << 10

	// eagerBytes of a value's beginning are let through at once where nobody
	// says when more will come. Else a message that ends in the first letter
	// of a value would wait for the next one, for which the other side may
	// wait in turn. Less than half of the shortest value ([minValue]).
	eagerBytes = 3
)

// pair is what is looked for in a stream, and what takes its place.
type pair struct{ from, to []byte }

// mask returns pairs that keep the length of what they replace.
func mask(pairs []pair) []pair {
	masked := make([]pair, len(pairs))
	for i, p := range pairs {
		masked[i] = pair{p.from, bytes.Repeat([]byte{'*'}, len(p.from))}
	}
	return masked
}

// scrubber reads src with pairs replaced, wherever the borders of its reads are.
// It holds back what may be the beginning of something to be replaced until more
// comes or src ends; with eager set, only if that is longer than eagerBytes.
type scrubber struct {
	src   io.Reader
	pairs []pair
	eager bool

	buf   []byte // read; its first told bytes were given out already
	told  int
	out   []byte // to be given out
	ahead []int  // where in buf each pair comes next; len(buf): nowhere
	err   error  // of src
	space []byte // what out is made in, again and again
}

// Read gives what is ready before it waits for more.
func (s *scrubber) Read(p []byte) (int, error) {
	for len(s.out) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.fill()
	}
	n := copy(p, s.out)
	s.out = s.out[n:]
	return n, nil
}

// fill reads once, and puts into out what can be decided.
func (s *scrubber) fill() {
	if s.buf == nil {
		s.buf = make([]byte, 0, scrubSize+s.longest())
		s.ahead = make([]int, len(s.pairs))
	}
	had := len(s.buf)
	n, err := s.src.Read(s.buf[had : had+scrubSize])
	s.buf, s.err, s.out = s.buf[:had+n], err, s.space[:0]
	for i := range s.ahead {
		s.ahead[i] = -1
	}
	held := 0
	if err == nil {
		held = s.partial()
	}
	// What lies before the held bytes is decided, and so is what begins there.
	done, end := 0, len(s.buf)-held
	for {
		at, p := s.next(done)
		if p == nil || at >= end {
			break
		}
		s.emit(s.buf[done:at])
		to := p.to
		if len(to) == len(p.from) {
			to = to[s.told:] // a mask is as long as what it stands for
		}
		s.out = append(s.out, to...)
		done, s.told = at+len(p.from), 0
	}
	end = max(end, done)
	s.emit(s.buf[done:end])
	rest := s.buf[end:]
	if s.eager && len(rest) <= eagerBytes {
		s.out = append(s.out, rest[s.told:]...)
		s.told = len(rest)
	}
	s.buf, s.space = append(s.buf[:0], rest...), s.out
}

// emit puts b out, except for what of it was given out already.
func (s *scrubber) emit(b []byte) {
	skip := min(s.told, len(b))
	s.out = append(s.out, b[skip:]...)
	s.told -= skip
}

// next finds the first of the pairs at or after buf[done], the longest where
// several begin. Each pair is looked for once in each byte, however many there
// are.
func (s *scrubber) next(done int) (at int, found *pair) {
	for i := range s.pairs {
		p := &s.pairs[i]
		if s.ahead[i] < done {
			s.ahead[i] = len(s.buf)
			if j := bytes.Index(s.buf[done:], p.from); j >= 0 {
				s.ahead[i] = done + j
			}
		}
		j := s.ahead[i]
		if j < len(s.buf) && (found == nil || j < at || j == at && len(p.from) > len(found.from)) {
			at, found = j, p
		}
	}
	return at, found
}

// partial is the length of the longest end of buf that begins one of the pairs.
func (s *scrubber) partial() int {
	b, longest := s.buf, 0
	for _, p := range s.pairs {
		for n := min(len(p.from)-1, len(b)); n > longest; n-- {
			if b[len(b)-n] == p.from[0] && bytes.HasSuffix(b, p.from[:n]) {
				longest = n
			}
		}
	}
	return longest
}

func (s *scrubber) longest() int {
	n := 0
	for _, p := range s.pairs {
		n = max(n, len(p.from))
	}
	return n
}
