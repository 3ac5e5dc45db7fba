package vnet

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

var scrubPairs = []pair{
	{[]byte("sk-value-123"), []byte("<KEY>")},
	{[]byte("sk-value-123-long"), []byte("<LONG>")},
	{[]byte("other+value"), []byte("<OTHER>")},
}

// pieces reads its strings one at a time.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	if (*p)[0] = (*p)[0][n:]; (*p)[0] == "" {
		*p = (*p)[1:]
	}
	return n, nil
}

// TestScrubAtEveryBorder promises that no split of a stream hides a value.
func TestScrubAtEveryBorder(t *testing.T) {
	const text = "a sk-value-123 b other+value, sk-value-12 sk-value-123-lon sk-value-123-long sk-sk-value-123"
	const want = "a <KEY> b <OTHER>, sk-value-12 <KEY>-lon <LONG> sk-<KEY>"
	for i := range len(text) {
		for j := i; j < len(text); j++ {
			src := pieces{text[:i], text[i:j], text[j:]}
			got, err := io.ReadAll(&scrubber{src: &src, pairs: scrubPairs})
			if err != nil || string(got) != want {
				t.Fatalf("split at %d and %d: got %q, %v, want %q", i, j, got, err, want)
			}
			src = pieces{text[:i], text[i:j], text[j:]}
			got, _ = io.ReadAll(&scrubber{src: &src, pairs: mask(scrubPairs), eager: true})
			if len(got) != len(text) || hasValue(got) {
				t.Fatalf("masked, split at %d and %d: got %q", i, j, got)
			}
			src = pieces{text[:i], text[i:j], text[j:]}
			if got, _ = io.ReadAll(&scrubber{src: &src, pairs: scrubPairs, eager: true}); hasValue(got) {
				t.Fatalf("eager, split at %d and %d: got %q", i, j, got)
			}
		}
	}
	got, err := io.ReadAll(&scrubber{src: iotest.OneByteReader(strings.NewReader(text)), pairs: scrubPairs})
	if err != nil || string(got) != want {
		t.Errorf("byte by byte: got %q, %v", got, err)
	}
}

func hasValue(b []byte) bool {
	for _, p := range scrubPairs {
		if bytes.Contains(b, p.from) {
			return true
		}
	}
	return false
}

// TestScrubHoldsLittle promises that a message is not held back because it ends
// as a value begins.
func TestScrubHoldsLittle(t *testing.T) {
	r, w := io.Pipe()
	s := &scrubber{src: r, pairs: scrubPairs, eager: true}
	for _, message := range []string{"yes", "task", "sk-", "no"} {
		go func() { _, _ = io.WriteString(w, message) }()
		b := make([]byte, len(message))
		if _, err := io.ReadFull(s, b); err != nil || string(b) != message {
			t.Fatalf("got %q, %v, want %q at once", b, err, message)
		}
	}
}

// TestScrubKeepsErrors promises that a stream that breaks off is not taken for a
// whole one.
func TestScrubKeepsErrors(t *testing.T) {
	src := io.MultiReader(strings.NewReader("begun sk-val"), iotest.ErrReader(io.ErrUnexpectedEOF))
	got, err := io.ReadAll(&scrubber{src: src, pairs: scrubPairs})
	if string(got) != "begun sk-val" || err != io.ErrUnexpectedEOF {
		t.Errorf("got %q, %v", got, err)
	}
}

// FuzzScrub promises that no text comes out with a value in it, however it is
// cut, and that what has no value comes out as it is.
func FuzzScrub(f *testing.F) {
	f.Add([]byte("a sk-value-123 b"), uint8(5), true)
	f.Add([]byte("sk-sk-value-123-long"), uint8(1), false)
	f.Fuzz(func(t *testing.T, b []byte, size uint8, eager bool) {
		for _, pairs := range [][]pair{scrubPairs, mask(scrubPairs)} {
			src := &sized{bytes.NewReader(b), int(size%40) + 1}
			got, err := io.ReadAll(&scrubber{src: src, pairs: pairs, eager: eager})
			if err != nil {
				t.Fatal(err)
			}
			if hasValue(got) && !bytes.Contains(got, []byte("<")) {
				t.Errorf("got %q from %q", got, b)
			}
			if !hasValue(b) && !bytes.Equal(got, b) {
				t.Errorf("got %q from %q, which has no value", got, b)
			}
		}
	})
}

// sized reads n bytes at most.
type sized struct {
	r io.Reader
	n int
}

func (s *sized) Read(b []byte) (int, error) { return s.r.Read(b[:min(len(b), s.n)]) }

func BenchmarkScrub(b *testing.B) {
	text := bytes.Repeat([]byte("so much text, and so little that is secret in it. "), 1<<20/50)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{&scrubber{src: bytes.NewReader(text), pairs: scrubPairs}})
	}
}
