package resttest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// maxBody is how much of a body is kept to be looked at. JSON of tests is
// smaller; of files only the type is looked at.
const maxBody = 1 << 20

// Handler reads along what a server is asked and what it answers. Prefixes are
// what the server takes between /v1/ and the rest.
func (j *Judge) Handler(h http.Handler, prefixes ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := unprefixed(r.URL, append(prefixes, "default"))
		method := r.Method
		var asked kept
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &asked), r.Body}
		rec := &recorder{ResponseWriter: w}
		defer func() { // also when the handler cuts the connection
			if rec.status != 0 {
				j.Check(Exchange{method, u, asked.whole(), rec.status, rec.Header(), rec.said.whole()})
			}
		}()
		h.ServeHTTP(rec, r)
		if rec.status == 0 {
			rec.status = http.StatusOK
		}
	})
}

// unprefixed is a URL as the document has it.
func unprefixed(u *url.URL, prefixes []string) *url.URL {
	out := *u
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(out.Path, "/v1/"+p+"/"); ok {
			out.Path = "/v1/" + rest
			out.RawPath = strings.Replace(out.RawPath, "/v1/"+p+"/", "/v1/", 1)
			break
		}
	}
	return &out
}

// kept is the beginning of a body.
type kept struct {
	bytes.Buffer
	over bool
}

func (k *kept) Write(p []byte) (int, error) {
	if k.Len()+len(p) > maxBody {
		k.over = true
		return len(p), nil
	}
	return k.Buffer.Write(p)
}

// whole is the body, or nil when it was too large.
func (k *kept) whole() []byte {
	if k.over {
		return nil
	}
	return append([]byte{}, k.Bytes()...)
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	said   kept
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	_, _ = w.said.Write(p) // into memory
	return w.ResponseWriter.Write(p)
}

// Hijack is another protocol from here on.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
