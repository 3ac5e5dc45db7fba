package restapi

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// Media types of files.
const (
	typeTar = "application/x-tar"
	typeRaw = "application/octet-stream"
)

// stallTimeout is how long a transfer may make no progress: then the other
// side is gone, or wants to hold us up.
const stallTimeout = time.Minute

// filePath is the path in the box that the query names.
func filePath(r *http.Request) (string, error) {
	p := r.URL.Query().Get("path")
	if p == "" {
		return "", httpapi.InvalidArgument.Errorf("path: is missing")
	}
	if strings.ContainsRune(p, 0) {
		return "", httpapi.InvalidArgument.Errorf("path: has a zero byte")
	}
	return p, nil
}

// putFiles unpacks an archive in the box, or writes one file.
func (s *Server) putFiles(w http.ResponseWriter, r *http.Request) error {
	dst, err := filePath(r)
	if err != nil {
		return err
	}
	overwrite, err := boolQuery(r, "overwrite", true)
	if err != nil {
		return err
	}
	top, err := boolQuery(r, "top_as_path", false)
	if err != nil {
		return err
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != typeTar && kind != typeRaw {
		return httpapi.InvalidArgument.Errorf("Content-Type %.100q: send %s, or %s for one file", r.Header.Get("Content-Type"), typeTar, typeRaw)
	}
	if r.ContentLength > s.admission.limits.Upload {
		return httpapi.TooLarge.Errorf("%d bytes, at most %d", r.ContentLength, s.admission.limits.Upload)
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := s.ready(r.Context(), b); err != nil {
		return err
	}
	body := s.upload(w, r)
	if kind == typeRaw {
		one, err := rawFile(r, b, dst, body)
		if err != nil {
			return err
		}
		defer one.Close()
		body = one
	}
	if err := b.CopyInTar(r.Context(), body, dst, boxlite.CopyOptions{NoOverwrite: !overwrite, TopAsPath: top}); err != nil {
		return uploadError(err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// rawFile makes an archive of a body that is one file.
func rawFile(r *http.Request, b *boxlite.Box, dst string, body io.Reader) (*io.PipeReader, error) {
	mode, err := fileMode(r)
	if err != nil {
		return nil, err
	}
	if r.ContentLength < 0 {
		return nil, httpapi.LengthMissing("a single file")
	}
	name := strings.TrimPrefix(path.Clean("/"+dst), "/")
	if st, err := fs.Stat(b.FS(r.Context()), name); strings.HasSuffix(dst, "/") || name == "" || err == nil && st.IsDir() {
		return nil, httpapi.InvalidArgument.Errorf("path %q: names a directory, and the body is one file", dst)
	}
	return oneFile(path.Base(name), mode, r.ContentLength, body), nil
}

// uploadError tells a body that broke off from what the box refused.
func uploadError(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, boxlite.ErrInvalid) && !errors.Is(err, boxlite.ErrBoxDied) {
		return &httpapi.Error{Kind: httpapi.InvalidArgument, Message: "the body ends too early", Err: err}
	}
	return err
}

func fileMode(r *http.Request) (fs.FileMode, error) {
	v := r.URL.Query().Get("mode")
	if v == "" {
		return 0o644, nil
	}
	n, err := strconv.ParseUint(v, 8, 32)
	if err != nil || n > 0o777 {
		return 0, httpapi.InvalidArgument.Errorf("mode %.20q: give octal permissions, as 644", v)
	}
	return fs.FileMode(n), nil
}

// oneFile makes an archive of one file out of its content.
func oneFile(name string, mode fs.FileMode, size int64, content io.Reader) *io.PipeReader {
	r, w := io.Pipe()
	go func() { // ends when the reader is closed, or the body
		tw := tar.NewWriter(w)
		err := tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: name, Mode: int64(mode), Size: size, ModTime: time.Now(), Format: tar.FormatPAX,
		})
		if err == nil {
			_, err = io.Copy(tw, content)
		}
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

// progress reads a body, each part of which must come in stallTimeout.
type progress struct {
	rc  *http.ResponseController
	r   io.Reader
	err error // that has ended it
}

// Read sets no deadline once the body has ended: from then on net/http reads, to
// see whether the client hangs up, and what is done with the body may take longer.
func (p *progress) Read(b []byte) (n int, err error) {
	if p.err != nil {
		return 0, p.err
	}
	_ = p.rc.SetReadDeadline(time.Now().Add(stallTimeout)) // not all servers have one
	n, p.err = p.r.Read(b)
	if errors.Is(p.err, os.ErrDeadlineExceeded) {
		p.err = &httpapi.Error{Kind: httpapi.InvalidArgument, Message: fmt.Sprintf("the body stood still for %v", stallTimeout), Err: p.err}
	}
	return n, p.err
}

// upload is the body of a request, as large as uploads may be and no slower.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) io.Reader {
	return &progress{rc: http.NewResponseController(w), r: http.MaxBytesReader(w, r.Body, s.admission.limits.Upload)}
}

// getFiles sends an archive, or one file as it is.
func (s *Server) getFiles(w http.ResponseWriter, r *http.Request) error {
	src, err := filePath(r)
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := s.ready(r.Context(), b); err != nil {
		return err
	}
	if wantsRaw(r) {
		return s.getFile(w, r, b, src)
	}
	follow, err := boolQuery(r, "follow_symlinks", false)
	if err != nil {
		return err
	}
	parent, err := boolQuery(r, "include_parent", true)
	if err != nil {
		return err
	}
	archive, err := b.CopyOutTar(r.Context(), src, boxlite.CopyOptions{FollowLinks: follow, NoParent: !parent})
	if err != nil {
		return err
	}
	defer archive.Close()
	w.Header().Set("Content-Type", typeTar)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method == http.MethodHead {
		return nil
	}
	if err := copyOut(w, archive, false); err != nil {
		s.log.Warn("download broke off", "box", b.ID(), "err", err)
		panic(http.ErrAbortHandler) // the answer is not whole: cut it, so that nobody takes it for that
	}
	return nil
}

// wantsRaw tells whether a client prefers one file as it is.
func wantsRaw(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(v, ",") {
			switch kind, _, _ := mime.ParseMediaType(part); kind {
			case typeTar:
				return false
			case typeRaw:
				return true
			}
		}
	}
	return false
}

// getFile sends one file, whole or in part.
func (s *Server) getFile(w http.ResponseWriter, r *http.Request, b *boxlite.Box, src string) error {
	name := strings.TrimPrefix(path.Clean("/"+src), "/")
	if name == "" {
		name = "."
	}
	fsys := b.FS(r.Context())
	st, err := fs.Stat(fsys, name)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return httpapi.InvalidArgument.Errorf("path %q: is no regular file; ask for %s", src, typeTar)
	}
	h := w.Header()
	h.Set("Content-Type", typeRaw)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", fmt.Sprintf(`"%x-%x"`, st.Size(), st.ModTime().UnixNano()))
	h.Set("X-Boxlite-Mode", fmt.Sprintf("%o", st.Mode().Perm()))
	if rng := r.Header.Get("Range"); !strings.HasPrefix(rng, "bytes=") || strings.Count(rng, ",") >= maxRanges {
		r.Header.Del("Range") // the whole is an answer to any
	} else if strings.Contains(","+strings.TrimPrefix(rng, "bytes=")+",", ",-0,") {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", st.Size()))
		return httpapi.Range.Errorf("range %.100q: is of no byte", rng)
	}
	f := &seeker{fsys: fsys, name: name, st: st}
	defer f.close()
	to := &ranged{stalling: stalling{w, http.NewResponseController(w)}}
	http.ServeContent(to, r, "", st.ModTime(), f)
	if to.refused {
		return httpapi.Range.Errorf("range %.100q: is not in the %d bytes of the file", r.Header.Get("Range"), st.Size())
	}
	return nil
}

// maxRanges bounds the parts that one request may ask for: to go back in a file
// of a box is to read it again.
const maxRanges = 16

// ranged keeps back the text that net/http answers a bad range with.
type ranged struct {
	stalling
	refused bool
}

func (w *ranged) WriteHeader(code int) {
	if code == http.StatusRequestedRangeNotSatisfiable {
		w.refused = true
		return
	}
	w.stalling.WriteHeader(code)
}

func (w *ranged) Write(p []byte) (int, error) {
	if w.refused {
		return len(p), nil
	}
	return w.stalling.Write(p)
}

// seeker reads a file of a box from any place, by reading up to it. If the file
// is not the one that was announced, before its first byte or its last, it
// fails, and the answer is cut short.
type seeker struct {
	fsys fs.FS
	name string
	st   fs.FileInfo
	want int64 // where the next read begins
	at   int64 // where f stands
	f    fs.File
}

func (f *seeker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.want
	case io.SeekEnd:
		offset += f.st.Size()
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	f.want = offset
	return offset, nil
}

func (f *seeker) Read(p []byte) (int, error) {
	if f.f == nil || f.at > f.want {
		f.close()
		file, err := f.fsys.Open(f.name)
		if err != nil {
			return 0, err
		}
		f.f, f.at = file, 0
		if err := f.same(file.Stat()); err != nil {
			return 0, err
		}
	}
	if skip := f.want - f.at; skip > 0 {
		n, err := io.CopyN(io.Discard, f.f, skip)
		f.at += n
		if err != nil {
			return 0, err
		}
	}
	n, err := f.f.Read(p)
	f.at += int64(n)
	f.want = f.at
	if f.at >= f.st.Size() {
		if err := f.same(fs.Stat(f.fsys, f.name)); err != nil {
			return 0, err
		}
	}
	return n, err
}

// same tells whether a file is still the one that was announced.
func (f *seeker) same(st fs.FileInfo, err error) error {
	if err == nil && (st.Size() != f.st.Size() || !st.ModTime().Equal(f.st.ModTime())) {
		err = errors.New("it has changed")
	}
	return err
}

func (f *seeker) close() {
	if f.f != nil {
		f.f.Close()
	}
}

// stalling is a ResponseWriter each part of which must be taken in
// stallTimeout.
type stalling struct {
	http.ResponseWriter
	rc *http.ResponseController
}

func (w *stalling) Write(p []byte) (int, error) {
	_ = w.rc.SetWriteDeadline(time.Now().Add(stallTimeout)) // not all servers have one
	return w.ResponseWriter.Write(p)
}

// copyOut sends what r has, at once if live.
func copyOut(w http.ResponseWriter, r io.Reader, live bool) error {
	to := &stalling{w, http.NewResponseController(w)}
	buf := make([]byte, 256<<10) // as large as what the agent sends in one frame
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
			if live {
				_ = to.rc.Flush() // what is left comes at the end
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case errors.Is(err, context.Canceled):
			return nil // the client hung up
		case err != nil:
			return err
		}
	}
}
