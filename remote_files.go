package boxlite

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
)

// remoteFiles asks the server for files of a box. It implements files.
type remoteFiles struct{ b *remoteBox }

func (b *remoteBox) files() files { return &remoteFiles{b} }

// request is one that may start the box.
func (f *remoteFiles) request(ctx context.Context, method string, query url.Values, path ...string) (restclient.Request, error) {
	header, err := f.b.starting(ctx)
	return restclient.Request{Method: method, Path: f.b.path(append([]string{"files"}, path...)...), Query: query, Header: header}, err
}

func (f *remoteFiles) ask(ctx context.Context, reply any, query url.Values, path string) error {
	req, err := f.request(ctx, http.MethodGet, query, path)
	if err == nil {
		err = f.b.rt.c.JSON(ctx, req, reply)
	}
	return f.err(err)
}

// err is an error as the agent would give it: without what was done to what,
// which the caller says.
func (f *remoteFiles) err(err error) error {
	if err == nil {
		return nil
	}
	return f.b.condition(err)
}

func (f *remoteFiles) stat(ctx context.Context, name, follow string) (fs.FileInfo, error) {
	var st rest.File
	if err := f.ask(ctx, &st, url.Values{"path": {name}, "follow": {follow}}, "stat"); err != nil {
		return nil, err
	}
	return st.Info(), nil
}

func (f *remoteFiles) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return f.stat(ctx, name, "true")
}

func (f *remoteFiles) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return f.stat(ctx, name, "false")
}

// maxEntries bounds a directory, whatever a server says: as the agent's is.
const maxEntries = 1 << 20

func (f *remoteFiles) ReadDir(ctx context.Context, name string) ([]fs.FileInfo, error) {
	list := []fs.FileInfo{}
	query := url.Values{"path": {name}, "pageSize": {"10000"}}
	for {
		var page rest.Files
		if err := f.ask(ctx, &page, query, "list"); err != nil {
			return nil, err
		}
		for _, e := range page.Entries {
			list = append(list, e.Info())
		}
		if page.NextPageToken == "" {
			return list, nil
		}
		if len(page.Entries) == 0 || len(list) > maxEntries {
			return nil, fmt.Errorf("%w: directory %s has more than %d entries", ErrExhausted, name, maxEntries)
		}
		query.Set("pageToken", page.NextPageToken)
	}
}

func (f *remoteFiles) Readlink(ctx context.Context, name string) (string, error) {
	var link rest.Link
	if err := f.ask(ctx, &link, url.Values{"path": {name}}, "link"); err != nil {
		return "", err
	}
	if link.RawTarget != nil {
		return string(link.RawTarget), nil
	}
	return link.Target, nil
}

// open asks for a stream.
func (f *remoteFiles) open(ctx context.Context, accept string, query url.Values, path ...string) (io.ReadCloser, error) {
	req, err := f.request(ctx, http.MethodGet, query, path...)
	if err != nil {
		return nil, f.err(err)
	}
	req.Header = withHeader(req.Header, "Accept", accept)
	r, err := f.b.rt.stream(ctx, req)
	return r, f.err(err)
}

func withHeader(h http.Header, key, value string) http.Header {
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set(key, value)
	return h
}

const (
	typeTar = "application/x-tar"
	typeRaw = "application/octet-stream"
)

func (f *remoteFiles) OpenFile(ctx context.Context, name string) (io.ReadCloser, error) {
	return f.open(ctx, typeRaw, url.Values{"path": {name}}, "content")
}

func (f *remoteFiles) CopyOut(ctx context.Context, out guest.CopyOut) (io.ReadCloser, error) {
	return f.open(ctx, typeTar, url.Values{
		"path": {out.Path}, "follow_symlinks": {fmt.Sprint(out.FollowLinks)}, "include_parent": {fmt.Sprint(!out.Contents)},
	})
}

// send uploads a stream.
func (f *remoteFiles) send(ctx context.Context, kind string, r io.Reader, query url.Values, path ...string) error {
	req, err := f.request(ctx, http.MethodPut, query, path...)
	if err != nil {
		return f.err(err)
	}
	req.Body, req.Type = r, kind
	return f.err(f.b.rt.c.JSON(ctx, req, nil))
}

func (f *remoteFiles) WriteFile(ctx context.Context, name string, perm fs.FileMode, r io.Reader) error {
	return f.send(ctx, typeRaw, r, url.Values{"path": {name}, "mode": {fmt.Sprintf("%o", perm.Perm())}}, "content")
}

func (f *remoteFiles) CopyIn(ctx context.Context, in guest.CopyIn, r io.Reader) error {
	return f.send(ctx, typeTar, r, url.Values{
		"path": {in.Path}, "overwrite": {fmt.Sprint(!in.NoOverwrite)}, "top_as_path": {fmt.Sprint(in.TopAsPath)},
	})
}
