package agent

import (
	"bytes"
	"io"
	"os"
)

// copyBuffer is how much is read before it is written: one system call each,
// which is what a copy costs in a sandbox.
const copyBuffer = 1 << 20

// hole is the unit in which runs of zeros become holes, in bytes.
const hole = 64 << 10

var zeros [hole]byte

// copier copies into new files, leaving holes for zeros. It belongs to one
// goroutine.
type copier struct{ buf []byte }

// copy fills f from r until its end and returns the length. f must be empty.
func (c *copier) copy(f *os.File, r io.Reader) (int64, error) {
	if c.buf == nil {
		c.buf = make([]byte, copyBuffer)
	}
	var size, written int64
	for {
		n, err := fill(r, c.buf)
		if n > 0 {
			end, werr := c.write(f, c.buf[:n], size)
			written = max(written, end)
			size += int64(n)
			if werr != nil {
				return size, werr
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return size, err
		}
	}
	if written < size {
		return size, f.Truncate(size)
	}
	return size, nil
}

// fill reads until buf is full or r fails. Unlike io.ReadFull it keeps the
// error: an end in the middle is not the end.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// write puts p at offset at, but for holes. It returns the end of what it has
// written.
func (c *copier) write(f *os.File, p []byte, at int64) (end int64, err error) {
	for len(p) > 0 {
		data := dataLen(p)
		if data > 0 {
			if _, err := f.WriteAt(p[:data], at); err != nil {
				return end, err
			}
			end = at + int64(data)
		}
		skip := min(data+hole, len(p))
		if data == len(p) {
			skip = data
		}
		p, at = p[skip:], at+int64(skip)
	}
	return end, nil
}

// dataLen is how much of p comes before the first whole unit of zeros.
func dataLen(p []byte) int {
	for i := 0; i+hole <= len(p); i += hole {
		if bytes.Equal(p[i:i+hole], zeros[:]) {
			return i
		}
	}
	return len(p)
}
