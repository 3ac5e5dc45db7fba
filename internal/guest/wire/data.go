package wire

import "io"

// DataReader is the bytes of consecutive [Data] frames. Read returns io.EOF at
// the first frame of another type, and Last then says which: its payload is
// still to be read from the Conn.
type DataReader struct {
	c    *Conn
	last Type
}

// NewDataReader returns a DataReader that starts with the next frame of c.
func NewDataReader(c *Conn) *DataReader { return &DataReader{c: c} }

// Last is the type of the frame that ended the data, 0 before that.
func (d *DataReader) Last() Type { return d.last }

func (d *DataReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for d.last == 0 {
		if d.c.left > 0 {
			return d.c.Read(p)
		}
		t, _, err := d.c.Next()
		if err != nil {
			return 0, cut(err) // data always ends with a frame that says so
		}
		if t != Data {
			d.last = t
		}
	}
	return 0, io.EOF
}

// DataWriter turns writes into [Data] frames of up to [Chunk] bytes. Flush
// sends what is buffered.
type DataWriter struct {
	c   *Conn
	buf []byte
}

// NewDataWriter returns a DataWriter on c.
func NewDataWriter(c *Conn) *DataWriter {
	return &DataWriter{c: c, buf: make([]byte, HeaderLen, HeaderLen+Chunk)}
}

func (w *DataWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
		if len(w.buf) == cap(w.buf) {
			if err := w.Flush(); err != nil {
				return total - len(p), err
			}
		}
	}
	return total, nil
}

// ReadFrom takes all of r, in full frames, without a copy in between. Flush
// sends the last.
func (w *DataWriter) ReadFrom(r io.Reader) (int64, error) {
	var total int64
	for {
		n, err := r.Read(w.buf[len(w.buf):cap(w.buf)])
		w.buf = w.buf[:len(w.buf)+n]
		total += int64(n)
		if len(w.buf) == cap(w.buf) {
			if ferr := w.Flush(); ferr != nil {
				return total, ferr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Flush sends what is buffered.
func (w *DataWriter) Flush() error {
	if len(w.buf) == HeaderLen {
		return nil
	}
	err := w.c.WriteReserved(Data, w.buf)
	w.buf = w.buf[:HeaderLen]
	return err
}
