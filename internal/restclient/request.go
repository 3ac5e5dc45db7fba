package restclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/boxlite-go/boxlite/internal/rest"
)

// maxReply bounds a JSON answer, in bytes: a page of a thousand boxes with all
// they can have is less.
const maxReply = 64 << 20

// maxFault bounds the body of an error, in bytes.
const maxFault = 64 << 10

// ErrUnreachable says that the server did not answer, or did not to the end.
var ErrUnreachable = errors.New("the server does not answer")

// Error is what a server has answered instead of doing it.
type Error struct {
	Status int
	rest.Fault
}

func (e *Error) Error() string { return e.Message }

// Request is one to be made.
type Request struct {
	Method string
	Path   []string // below the root of the API, each part to be escaped
	Query  url.Values
	Header http.Header
	JSON   any       // the body, or
	Body   io.Reader // the body as it is, of
	Type   string    // this type
}

// request makes it ready to be sent.
func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	body, kind := r.Body, r.Type
	if r.JSON != nil {
		text, err := json.Marshal(r.JSON)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(text), "application/json"
	}
	if r.Body != nil {
		body = struct{ io.Reader }{r.Body} // so that net/http does not close it
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, c.url(r), body)
	if err != nil {
		return nil, err
	}
	for _, h := range []http.Header{c.header, r.Header} {
		for k, v := range h {
			req.Header[k] = v
		}
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	if r.Body != nil {
		req.Header.Set("Expect", "100-continue") // what is refused need not be sent
	}
	return req, nil
}

func (c *Client) url(r Request) string {
	u := *c.base
	parts := make([]string, len(r.Path))
	for i, p := range r.Path {
		if parts[i] = url.PathEscape(p); strings.Trim(p, ".") == "" {
			parts[i] = strings.ReplaceAll(p, ".", "%2E") // no way up
		}
	}
	text := u.String() + strings.Join(parts, "/")
	if len(r.Query) > 0 {
		text += "?" + r.Query.Encode()
	}
	return text
}

// do makes a request.
func (c *Client) do(ctx context.Context, r Request) (*http.Response, error) {
	src := &source{r: r.Body}
	if r.Body != nil {
		r.Body = src
	}
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e := src.failure(); e != nil {
			return nil, e
		}
		return nil, c.broken(ctx, err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, c.refusal(resp)
	}
	return resp, nil
}

// broken says why there is no answer.
func (c *Client) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // it names the URL, and so does c
	}
	return fmt.Errorf("server %s: %w: %w", c.where, ErrUnreachable, err)
}

// refusal reads what a server says instead of an answer.
func (c *Client) refusal(resp *http.Response) error {
	var e rest.Envelope
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxFault)) // what came of it must do
	if json.Unmarshal(text, &e) != nil || e.Error.Message == "" {
		e.Error.Message = fmt.Sprintf("server %s: %s, without a reason; is it boxlite serve?", c.where, resp.Status)
	}
	return &Error{resp.StatusCode, e.Error}
}

// Stream makes a request and returns the answer, which the caller closes. The
// error, of Read too, is an [*Error] when the server refuses, the cause of ctx
// when that ended first, that of Body when it failed, and else [ErrUnreachable].
func (c *Client) Stream(ctx context.Context, r Request) (io.ReadCloser, error) {
	resp, err := c.do(ctx, r) //nolint:bodyclose // it is what the stream closes
	if err != nil {
		return nil, err
	}
	return &stream{resp.Body, c, ctx}, nil
}

// stream is an answer as it comes.
type stream struct {
	io.ReadCloser
	c   *Client
	ctx context.Context //nolint:containedctx // io.Reader has no place for one
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = s.c.broken(s.ctx, err)
	}
	return n, err
}

// JSON makes a request and reads the answer into reply, unless that is nil. Its
// errors are those of Stream.
func (c *Client) JSON(ctx context.Context, r Request, reply any) error {
	body, err := c.Stream(ctx, r)
	if err != nil {
		return err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxReply+1))
	switch {
	case err != nil:
		return err
	case reply == nil:
		return nil
	case len(text) > maxReply:
		return fmt.Errorf("server %s: an answer of more than %d bytes", c.where, maxReply)
	}
	if err := json.Unmarshal(text, reply); err != nil {
		return fmt.Errorf("server %s: an answer that makes no sense: %w", c.where, err)
	}
	return nil
}
