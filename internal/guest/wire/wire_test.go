package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// frame is one frame as bytes, with any type and length.
func frame(t byte, n uint32, payload string) string {
	var h [HeaderLen]byte
	h[0] = t
	binary.BigEndian.PutUint32(h[1:], n)
	return string(h[:]) + payload
}

// readOnly makes a Conn of what the other side sends.
func readOnly(s string) *Conn {
	return NewConn(struct {
		io.Reader
		io.Writer
	}{strings.NewReader(s), io.Discard})
}

func TestFramesComeBackAsSent(t *testing.T) {
	var pipe bytes.Buffer
	c := NewConn(&pipe)
	big := bytes.Repeat([]byte("x"), MaxPayload)
	for _, p := range [][]byte{nil, []byte("one"), big} {
		if err := c.Write(Data, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteReserved(Stdout, append(make([]byte, HeaderLen), "two"...)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		t Type
		p string
	}{{Data, ""}, {Data, "one"}, {Data, string(big)}, {Stdout, "two"}} {
		typ, n, err := c.Next()
		if err != nil || typ != want.t || n != len(want.p) {
			t.Fatalf("Next: got %d, %d, %v, want %d, %d", typ, n, err, want.t, len(want.p))
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != want.p {
			t.Errorf("payload: got %d bytes, %v, want %d", len(got), err, len(want.p))
		}
	}
	if _, _, err := c.Next(); err != io.EOF {
		t.Errorf("Next at the end: got %v, want io.EOF", err)
	}
	if err := c.Write(Data, make([]byte, MaxPayload+1)); !errors.Is(err, ErrFrame) {
		t.Errorf("Write of too much: got %v, want ErrFrame", err)
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"type 0", frame(0, 0, ""), ErrFrame},
		{"unknown type", frame(byte(limit), 0, ""), ErrFrame},
		{"too long", frame(byte(Data), MaxPayload+1, ""), ErrFrame},
		{"far too long", frame(byte(Data), 1<<32-1, ""), ErrFrame},
		{"header cut", "\x01\x00", io.ErrUnexpectedEOF},
		{"nothing", "", io.EOF},
	} {
		if _, _, err := readOnly(tt.in).Next(); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
	c := readOnly(frame(byte(Data), 10, "short"))
	if _, _, err := c.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != io.ErrUnexpectedEOF {
		t.Errorf("payload cut: got %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestNextSkipsWhatWasNotRead(t *testing.T) {
	c := readOnly(frame(byte(Data), 5, "12345") + frame(byte(End), 0, ""))
	c.Next()
	c.Read(make([]byte, 2))
	if typ, _, err := c.Next(); err != nil || typ != End {
		t.Errorf("Next: got %d, %v, want End", typ, err)
	}
}

func TestJSONIsStrict(t *testing.T) {
	type point struct{ X, Y int }
	for in, ok := range map[string]bool{
		`{"X":1,"Y":2}`: true, `{"X":1}`: true, ` {} `: true,
		`{"X":1,"Z":2}`: false, `{"X":1}{}`: false, `{"X":"1"}`: false, `{"X":1`: false, ``: false, `[]`: false,
	} {
		c := readOnly(frame(byte(Reply), uint32(len(in)), in))
		c.Next()
		var p point
		if err := c.JSON(&p); (err == nil) != ok {
			t.Errorf("%s: got %v, want ok %v", in, err, ok)
		}
	}
}

func TestDataEndsWithAnotherFrame(t *testing.T) {
	in := frame(byte(Data), 3, "abc") + frame(byte(Data), 0, "") + frame(byte(Data), 3, "def") + frame(byte(Error), 2, "{}")
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole": func(r io.Reader) io.Reader { return r }, "bytewise": iotest.OneByteReader,
	} {
		c := readOnly(in)
		d := NewDataReader(c)
		got, err := io.ReadAll(wrap(d))
		if err != nil || string(got) != "abcdef" || d.Last() != Error {
			t.Errorf("%s: got %q, %v, last %d, want abcdef and the error", name, got, err, d.Last())
		}
		var v struct{}
		if err := c.JSON(&v); err != nil {
			t.Errorf("%s: payload of the last frame: %v", name, err)
		}
	}
	if _, err := io.ReadAll(NewDataReader(readOnly(in[:10]))); err != io.ErrUnexpectedEOF {
		t.Errorf("data that just ends: got %v, want io.ErrUnexpectedEOF", err)
	}
}

func TestDataWriterFillsFrames(t *testing.T) {
	var pipe bytes.Buffer
	c := NewConn(&pipe)
	w := NewDataWriter(c)
	want := bytes.Repeat([]byte("0123456789"), Chunk/4)
	half := len(want) / 2
	if _, err := w.Write(want[:half]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(iotest.HalfReader(bytes.NewReader(want[half:]))); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	c.Write(End, nil)
	if frames := pipe.Len() - len(want); frames != (len(want)/Chunk+1+1)*HeaderLen {
		t.Errorf("frames: %d bytes of headers, want those of full frames", frames)
	}
	if got, err := io.ReadAll(NewDataReader(c)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("data: got %d bytes, %v, want %d", len(got), err, len(want))
	}
}

// FuzzFrame reads any bytes as frames: it ends, without a panic, and never
// hands out more than came in.
func FuzzFrame(f *testing.F) {
	f.Add([]byte(frame(byte(Hello), 2, "{}") + frame(byte(Data), 3, "abc") + frame(byte(End), 0, "")))
	f.Add([]byte(frame(byte(Data), 1<<32-1, "")))
	f.Add([]byte(frame(255, 0, "")))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := readOnly(string(in))
		total := 0
		for {
			typ, n, err := c.Next()
			if err != nil {
				break
			}
			if typ == 0 || typ >= limit || n > MaxPayload {
				t.Fatalf("Next: got type %d of %d bytes", typ, n)
			}
			got, _ := io.ReadAll(c)
			total += len(got)
		}
		if total > len(in) {
			t.Fatalf("read %d bytes of %d", total, len(in))
		}
		var v map[string]any
		c = readOnly(string(in))
		if _, _, err := c.Next(); err == nil {
			c.JSON(&v)
		}
	})
}
