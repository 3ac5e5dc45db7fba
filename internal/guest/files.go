package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite/internal/guest/wire"
)

// FileStat is a file's facts on the wire. Names are bytes, not text.
type FileStat struct {
	Name   []byte      `json:"name"` // base name
	Size   int64       `json:"size"`
	Mode   fs.FileMode `json:"mode"`
	Sec    int64       `json:"sec"` // modification time since 1970
	Nsec   int64       `json:"nsec"`
	UID    uint32      `json:"uid"`
	GID    uint32      `json:"gid"`
	Target []byte      `json:"target,omitempty"` // of a symbolic link
}

// FileInfo is what is known of a file in a box. It implements fs.FileInfo.
type FileInfo struct{ st FileStat }

var _ fs.FileInfo = FileInfo{}

// Name is the base name, "/" for the root.
func (f FileInfo) Name() string { return string(f.st.Name) }

// Size is the length of a regular file, in bytes.
func (f FileInfo) Size() int64 { return f.st.Size }

// Mode is type and permissions.
func (f FileInfo) Mode() fs.FileMode { return f.st.Mode }

// ModTime is when the content last changed.
func (f FileInfo) ModTime() time.Time { return time.Unix(f.st.Sec, f.st.Nsec) }

// IsDir reports whether it is a directory.
func (f FileInfo) IsDir() bool { return f.st.Mode.IsDir() }

// Sys is nil.
func (f FileInfo) Sys() any { return nil }

// Target is what a symbolic link names.
func (f FileInfo) Target() string { return string(f.st.Target) }

// Owner is who owns the file in the box.
func (f FileInfo) Owner() (uid, gid uint32) { return f.st.UID, f.st.GID }

// check refuses a name that would name something else.
func (f *FileInfo) check() error {
	name := string(f.st.Name)
	if name == "/" {
		return nil
	}
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: file name %s", wire.ErrFrame, printable(fmt.Sprintf("%q", name), 300))
	}
	if len(f.st.Target) > MaxPath || f.st.Size < 0 || f.st.Nsec < 0 || f.st.Nsec >= 1e9 {
		return fmt.Errorf("%w: facts of file %s", wire.ErrFrame, printable(fmt.Sprintf("%q", name), 300))
	}
	return nil
}

// Stat tells about a file, following symbolic links in the box. The errors of
// this and the following methods match fs.ErrNotExist and its kin.
func (c *Client) Stat(ctx context.Context, name string) (FileInfo, error) {
	return c.stat(ctx, &Request{Op: OpStat, Path: []byte(name), Follow: true})
}

// Lstat tells about a file, or a symbolic link itself.
func (c *Client) Lstat(ctx context.Context, name string) (FileInfo, error) {
	return c.stat(ctx, &Request{Op: OpStat, Path: []byte(name)})
}

func (c *Client) stat(ctx context.Context, r *Request) (f FileInfo, err error) {
	if err := c.call(ctx, r, &f.st); err != nil {
		return FileInfo{}, err
	}
	return f, f.check()
}

// ReadDir lists a directory by name, without "." and "..".
func (c *Client) ReadDir(ctx context.Context, name string) ([]FileInfo, error) {
	stats, err := list[FileStat](ctx, c, &Request{Op: OpReadDir, Path: []byte(name)})
	if err != nil {
		return nil, err
	}
	infos := make([]FileInfo, len(stats))
	for i := range stats {
		infos[i] = FileInfo{stats[i]}
		if err := infos[i].check(); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(infos, func(a, b FileInfo) int { return bytes.Compare(a.st.Name, b.st.Name) })
	return infos, nil
}

// Readlink is what a symbolic link names.
func (c *Client) Readlink(ctx context.Context, name string) (string, error) {
	var target []byte
	if err := c.call(ctx, &Request{Op: OpReadlink, Path: []byte(name)}, &target); err != nil {
		return "", err
	}
	if len(target) > MaxPath {
		return "", fmt.Errorf("%w: link of %d bytes", wire.ErrFrame, len(target))
	}
	return string(target), nil
}

// Mkdir makes a directory; with all its parents too, and one that exists is no
// error.
func (c *Client) Mkdir(ctx context.Context, name string, perm fs.FileMode, all bool) error {
	return c.call(ctx, &Request{Op: OpMkdir, Path: []byte(name), Perm: perm, All: all}, nil)
}

// Remove removes a file or an empty directory; with all whatever is below, and
// what is missing is no error.
func (c *Client) Remove(ctx context.Context, name string, all bool) error {
	return c.call(ctx, &Request{Op: OpRemove, Path: []byte(name), All: all}, nil)
}

// Rename gives a file another name, replacing what has it.
func (c *Client) Rename(ctx context.Context, from, to string) error {
	return c.call(ctx, &Request{Op: OpRename, Path: []byte(from), To: []byte(to)}, nil)
}

// File is a file in a box that is being read, or a tar stream from it. Close
// must be called.
type File struct {
	s       *stream
	info    FileInfo
	data    *wire.DataReader
	err     error
	trailer Trailer
}

// OpenFile opens a regular file for reading. The end of ctx breaks Read.
func (c *Client) OpenFile(ctx context.Context, name string) (*File, error) {
	return c.download(ctx, &Request{Op: OpReadFile, Path: []byte(name)})
}

// CopyOut packs a file or directory of the box as a tar stream. Read returns
// an [*Error] if something went wrong in the box after the start, a file that
// changed while it was read included. The stream is whatever the box sends:
// unpack it as such. The end of ctx breaks Read.
func (c *Client) CopyOut(ctx context.Context, o CopyOut) (*File, error) {
	return c.download(ctx, &Request{Op: OpCopyOut, Out: &o})
}

func (c *Client) download(ctx context.Context, r *Request) (*File, error) {
	s, _, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	f := &File{s: s}
	err = s.expect(wire.Reply, &f.info.st)
	if err == nil {
		err = f.info.check()
	}
	if err != nil {
		return nil, s.fail(err)
	}
	f.data = wire.NewDataReader(s.wire)
	return f, nil
}

// Stat tells about the file, or the top of the tar stream.
func (f *File) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *File) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.data.Read(p)
	if err == io.EOF {
		if err = f.s.cause(f.s.take(f.data.Last(), wire.End, &f.trailer)); err == nil {
			err = io.EOF
		}
	} else if err != nil {
		err = f.s.cause(err)
	}
	f.err = err
	return n, err
}

// Skipped names what was left out of a tar stream, up to a bound: sockets,
// devices, FIFOs. It is valid after Read returned io.EOF.
func (f *File) Skipped() []string {
	names := make([]string, 0, len(f.trailer.Skipped)+1)
	for _, n := range f.trailer.Skipped {
		names = append(names, printable(n, MaxPath))
	}
	if more := f.trailer.SkippedCount - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return names
}

// Close ends the reading. It may be called while Read waits.
func (f *File) Close() error {
	f.s.stop()
	return f.s.conn.Close()
}

// WriteFile writes all of r to a file: it is made if missing, its parents too,
// and truncated otherwise. It is not atomic. A failure of r is returned as it
// is, and leaves what was written.
func (c *Client) WriteFile(ctx context.Context, name string, perm fs.FileMode, r io.Reader) error {
	_, err := c.upload(ctx, &Request{Op: OpWriteFile, Path: []byte(name), Perm: perm}, r)
	return err
}

// CopyIn unpacks a tar stream in the box. The error is an [*Error] when the box
// refuses it; what was unpacked before stays.
func (c *Client) CopyIn(ctx context.Context, o CopyIn, tar io.Reader) error {
	_, err := c.upload(ctx, &Request{Op: OpCopyIn, In: &o}, tar)
	return err
}

func (c *Client) upload(ctx context.Context, req *Request, r io.Reader) (t Trailer, err error) {
	s, _, err := c.open(ctx, req)
	if err != nil {
		return Trailer{}, err
	}
	defer func() { s.stop(); s.conn.Close() }()
	w := wire.NewDataWriter(s.wire)
	src := &source{r: r}
	_, err = w.ReadFrom(src)
	if src.err != nil {
		return Trailer{}, src.err
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = s.wire.Write(wire.End, nil)
	}
	// The agent may have refused in the middle: then this says why.
	if answer := s.expect(wire.Reply, &t); answer != nil {
		var remote *Error
		if err == nil || errors.As(answer, &remote) {
			err = answer
		}
	}
	return t, s.cause(err)
}

// source remembers its own failure, to tell it from the stream's.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
