// Package wire frames bytes between a host and the agent in a box.
//
// A frame is a type (1 byte), the length of its payload (4 bytes, big-endian,
// at most [MaxPayload]) and the payload. Both sides treat the other as hostile:
// an unknown type or a length out of bounds ends the stream.
package wire

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// HeaderLen is the size of a frame's header, in bytes.
const HeaderLen = 5

// MaxPayload is the largest payload of one frame, in bytes.
const MaxPayload = 1 << 20

// MaxControl is the largest payload that is decoded as JSON, in bytes.
const MaxControl = MaxPayload

// Chunk is how much data a sender puts in one frame: large enough that the
// cost of a system call does not show, small enough to keep many streams.
const Chunk = 256 << 10

// Type is what a frame carries.
type Type byte

// Types of frame. The comment names the payload and who sends it.
const (
	Hello    Type = iota + 1 // guest.Hello, both: always the first
	Request                  // guest.Request, host: always its second
	Reply                    // JSON answer to the request, agent
	Error                    // guest.Error, agent: the last
	Stdin                    // raw, host
	StdinEnd                 // empty, host
	Stdout                   // raw, agent
	Stderr                   // raw, agent
	Gap                      // guest.Gap, agent: output that is no longer kept
	Exit                     // guest.Exit, agent: the last
	Data                     // raw, either: a file, a tar stream, a list
	End                      // JSON trailer, either: no more data
	limit
)

// ErrFrame is what a frame that breaks the rules causes.
var ErrFrame = errors.New("malformed frame")

// Conn reads and writes frames. One goroutine may read while others write.
// It does not own rw.
type Conn struct {
	r    *bufio.Reader
	left int // payload bytes of the current frame not yet read

	wmu  sync.Mutex
	w    io.Writer
	wbuf []byte
}

// NewConn returns a Conn over rw.
func NewConn(rw io.ReadWriter) *Conn {
	return &Conn{r: bufio.NewReaderSize(rw, 4<<10), w: rw}
}

// Next returns the type and payload length of the next frame; what was not
// read of the one before is skipped. It returns io.EOF only between frames.
func (c *Conn) Next() (Type, int, error) {
	if c.left > 0 {
		n, err := c.r.Discard(c.left)
		c.left -= n
		if err != nil {
			return 0, 0, cut(err)
		}
	}
	var h [HeaderLen]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return 0, 0, err
	}
	t, n := Type(h[0]), binary.BigEndian.Uint32(h[1:])
	if t == 0 || t >= limit {
		return 0, 0, fmt.Errorf("%w: unknown type %d", ErrFrame, h[0])
	}
	if n > MaxPayload {
		return 0, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrFrame, n, MaxPayload)
	}
	c.left = int(n)
	return t, c.left, nil
}

// Read reads from the payload of the current frame; io.EOF is its end.
func (c *Conn) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	if len(p) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= n
	return n, cut(err)
}

// JSON decodes what is left of the current frame into v. Unknown fields and
// trailing bytes are refused.
func (c *Conn) JSON(v any) error {
	if c.left > MaxControl {
		return fmt.Errorf("%w: control payload of %d bytes", ErrFrame, c.left)
	}
	p := make([]byte, c.left)
	if _, err := io.ReadFull(c, p); err != nil {
		return cut(err)
	}
	return Decode(p, v)
}

// Decode is the strict JSON decoder of control payloads.
func Decode(p []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: bytes after the JSON value", ErrFrame)
	}
	return nil
}

// Write sends one frame with a copy of payload. It is safe for concurrent use.
func (c *Conn) Write(t Type, payload []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = append(c.wbuf[:0], make([]byte, HeaderLen)...)
	c.wbuf = append(c.wbuf, payload...)
	return c.writeLocked(t, c.wbuf)
}

// WriteJSON sends one frame with v as JSON.
func (c *Conn) WriteJSON(t Type, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.Write(t, p)
}

// WriteReserved sends one frame in one write. The first [HeaderLen] bytes of
// buf are overwritten with the header; the payload stands after them.
func (c *Conn) WriteReserved(t Type, buf []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.writeLocked(t, buf)
}

func (c *Conn) writeLocked(t Type, buf []byte) error {
	n := len(buf) - HeaderLen
	if n > MaxPayload {
		return fmt.Errorf("%w: %d bytes to send, at most %d", ErrFrame, n, MaxPayload)
	}
	buf[0] = byte(t)
	binary.BigEndian.PutUint32(buf[1:HeaderLen], uint32(n))
	_, err := c.w.Write(buf)
	return err
}

// cut turns an end inside a frame into the error it is.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
