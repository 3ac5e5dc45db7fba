package boxlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
)

// Remote says which server [Connect] uses, and as whom.
type Remote struct {
	// URL of the server: https://HOST[:PORT], http://HOST[:PORT], or
	// unix:///PATH of its socket.
	URL string

	// Key that the server asks for. Empty: none. It is sent over https, to a
	// socket, and to this machine; to others over http only with PlainKey.
	Key      string
	PlainKey bool

	// PathPrefix that the server was started with. Empty: none.
	PathPrefix string

	// CAFile has more certificates to trust, PEM.
	CAFile string

	// Logger gets what the caller should know; nil is silent.
	Logger *slog.Logger
}

// String tells the server without the key.
func (r Remote) String() string { return r.URL }

// GoString is [Remote.String], so that no verb of fmt prints the key.
func (r Remote) GoString() string { return r.URL }

// LogValue is [Remote.String].
func (r Remote) LogValue() slog.Value { return slog.StringValue(r.URL) }

// remote is a server. It implements backend.
type remote struct {
	c   *restclient.Client
	log *slog.Logger

	turn  chan struct{} // held by who opens the lease
	lease *lease        // guarded by turn; nil: none was needed yet

	mu     sync.Mutex
	closed bool
}

// extensions are what a server has beyond BoxLite's that this client needs.
var extensions = []string{
	"details", "lease", "main", "files.tree", "network.connect", "network.modes", "attach.lossless",
	"attach.patience", "attach.acks", "images.transfer",
	"images.progress", "info", "errors.cause", "volumes.prune",
}

// Connect returns the runtime of a server, as "boxlite serve" is one. All of the
// API works there as it does here, on the server's boxes and images: paths of
// [BoxOptions.Rootfs] and [Volume.Host] are those of its host, and it may refuse
// them; the files that [Box.CopyIn], [Box.CopyOut], [Images.Load] and the like
// name are the caller's.
//
// Attached boxes end with the server, and also with this runtime if it started
// them: at Close, or half a minute after the connection to the server has broken.
//
// The error is [ErrUnreachable] when there is no server, [ErrUnsupported] when
// it is one that lacks what is needed, [ErrInvalid] when r makes no sense. A key
// that is not known shows at the first use, as [ErrUnauthorized].
func Connect(ctx context.Context, r Remote) (*Runtime, error) {
	log := r.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := restclient.New(restclient.Config{
		URL: r.URL, Key: r.Key, PathPrefix: r.PathPrefix, CAFile: r.CAFile, PlainKey: r.PlainKey, UserAgent: "boxlite/" + Version(),
	})
	if err != nil {
		return nil, &Error{"connect", "", &cause{ErrInvalid, err}}
	}
	on := &remote{c: c, log: log, turn: make(chan struct{}, 1)}
	if err := on.check(ctx); err != nil {
		c.Close()
		return nil, remoteErr("connect", "", err)
	}
	return &Runtime{on}, nil
}

// check asks whether the server can do what is needed.
func (r *remote) check(ctx context.Context) error {
	var config rest.Config
	if err := r.get(ctx, &config, nil, "config"); err != nil {
		return err
	}
	for _, e := range extensions {
		if !slices.Contains(config.Extensions, e) {
			return fmt.Errorf("%w: server %s lacks the extension %q: it is older than this boxlite, or not one of ours", ErrUnsupported, r.c, e)
		}
	}
	return nil
}

// get asks for something.
func (r *remote) get(ctx context.Context, reply any, query url.Values, path ...string) error {
	return r.c.JSON(ctx, restclient.Request{Method: http.MethodGet, Path: path, Query: query}, reply)
}

// post sends something; body and reply may be nil.
func (r *remote) post(ctx context.Context, body, reply any, path ...string) error {
	return r.c.JSON(ctx, restclient.Request{Method: http.MethodPost, Path: path, JSON: body}, reply)
}

// stream asks for what comes bit by bit.
func (r *remote) stream(ctx context.Context, req restclient.Request) (io.ReadCloser, error) {
	body, err := r.c.Stream(ctx, req)
	if err != nil {
		return nil, err
	}
	return &remoteStream{body}, nil
}

// remoteStream gives the errors of a stream their conditions.
type remoteStream struct{ io.ReadCloser }

func (s *remoteStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	return n, unreachable(err)
}

// unreachable names the condition of a server that does not answer.
func unreachable(err error) error {
	if errors.Is(err, restclient.ErrUnreachable) {
		return &cause{ErrUnreachable, err}
	}
	return err
}

// open fails after Close.
func (r *remote) open() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return ErrRuntimeClosed
	}
	return nil
}

// Close ends the lease, if there is one, and waits until its boxes have stopped.
func (r *remote) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		return nil
	}
	r.turn <- struct{}{} // whoever opens a lease is waited for; afterwards nobody does
	l := r.lease
	<-r.turn
	if l != nil {
		l.end()
	}
	r.c.Close()
	return nil
}

func (r *remote) Info(ctx context.Context) (Info, error) {
	var i rest.Info
	if err := r.get(ctx, &i, nil, "info"); err != nil {
		return Info{}, remoteErr("info", "", err)
	}
	info := Info{Version: i.Version, Home: i.Home, Engine: i.Engine, Boxes: map[State]int{}, Images: i.Images, OS: i.OS, Arch: i.Arch}
	for state, n := range i.Boxes {
		info.Boxes[State(state)] = n
	}
	return info, nil
}

func (r *remote) Whoami(ctx context.Context) (Identity, error) {
	var me rest.Me
	if err := r.get(ctx, &me, nil, "me"); err != nil {
		return Identity{}, remoteErr("whoami", "", err)
	}
	return Identity{Name: me.Sub, Scopes: me.Scopes}, nil
}

// conditions is what the conditions of the wire are here, and the codes of
// errors that have none.
var conditions = map[string]error{
	rest.NotFound: ErrNotFound, rest.Exists: ErrExists, rest.State: ErrState, rest.Invalid: ErrInvalid,
	rest.Unsupported: ErrUnsupported, rest.Unauthorized: ErrUnauthorized, rest.Unreachable: ErrUnreachable,
	rest.BadImage: ErrImage, rest.Exhausted: ErrExhausted, rest.BoxDied: ErrBoxDied, rest.Closed: ErrRuntimeClosed,
	rest.NoFile: fs.ErrNotExist, rest.FileExists: fs.ErrExist, rest.Permission: fs.ErrPermission, rest.Refused: syscall.ECONNREFUSED,
	rest.Deadline: context.DeadlineExceeded, rest.Canceled: context.Canceled,

	"already_exists": ErrExists, "invalid_state": ErrState, "stopped": ErrState, "invalid_argument": ErrInvalid,
	"payload_too_large": ErrExhausted, "unauthenticated": ErrUnauthorized, "permission_denied": ErrUnauthorized,
	"image_pull_failed": ErrImage, "resource_exhausted": ErrExhausted, "network_unavailable": ErrUnreachable,
	"engine_unavailable": ErrUnreachable, "timeout": context.DeadlineExceeded, "session_reaped": ErrNotFound,
}

// remoteErr makes what a server answered the error that it would be here.
func remoteErr(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	e, ok := errors.AsType[*restclient.Error](err)
	switch {
	case ok && e.Cause != nil && e.Cause.Op != "":
		if e.Cause.Name != "" {
			name = e.Cause.Name
		}
		return &Error{e.Cause.Op, name, causeErr(&e.Fault)}
	case ok:
		return &Error{op, name, causeErr(&e.Fault)}
	}
	return &Error{op, name, unreachable(err)}
}

// causeErr is the error in a fault, with its condition.
func causeErr(f *rest.Fault) error {
	key, text := f.Code, f.Message
	if c := f.Cause; c != nil {
		key, text = c.Condition, c.Text
	}
	err := errors.New(strings.ToValidUTF8(text, "?"))
	if condition := conditions[key]; condition != nil {
		err = &cause{condition, err}
	}
	if c := f.Cause; c != nil && c.ExitCode != 0 {
		err = &CommandError{Code: c.ExitCode, Err: err}
	}
	return err
}
