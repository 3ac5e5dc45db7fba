package boxlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
)

// remoteBox is a handle of a box on a server. It implements boxBackend.
type remoteBox struct {
	rt     *remote
	id     string
	name   string
	detach bool

	mu      sync.Mutex
	stopped bool // by this handle
}

func (b *remoteBox) label() string { return boxLabel(b.id, b.name) }

func (b *remoteBox) fail(op string, err error) error { return remoteErr(op, b.label(), err) }

func (b *remoteBox) condition(err error) error {
	if e, ok := errors.AsType[*Error](remoteErr("", "", err)); ok {
		return e.Err
	}
	return err
}

// path is one below the box.
func (b *remoteBox) path(more ...string) []string { return append([]string{"boxes", b.id}, more...) }

// starting is the header of a request that may start the box. A box that this
// handle has stopped is not started by the way.
func (b *remoteBox) starting(ctx context.Context) (http.Header, error) {
	b.mu.Lock()
	stopped := b.stopped
	b.mu.Unlock()
	if stopped {
		info, err := b.Info(ctx)
		if err != nil {
			return nil, err
		}
		if info.State != StateRunning {
			return nil, fmt.Errorf("%w: it is %s; start it first", ErrState, info.State)
		}
	}
	if err := b.rt.open(); err != nil || b.detach {
		return nil, err
	}
	return b.rt.leaseHeader(ctx)
}

func (b *remoteBox) Start(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = false
	b.mu.Unlock()
	header, err := b.starting(ctx)
	if err == nil {
		err = b.rt.c.JSON(ctx, restclient.Request{Method: http.MethodPost, Path: b.path("start"), Header: header}, nil)
	}
	return b.fail("start", err)
}

// stopLimit is what a stop may take when the caller sets no end, in seconds: for
// saving what a large box has written. Commands get their ten seconds.
const stopLimit = 300

func (b *remoteBox) Stop(ctx context.Context) error {
	b.mu.Lock()
	b.stopped = true
	b.mu.Unlock()
	limit := float64(stopLimit)
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, max(0, time.Until(d).Seconds()/2)) // the server takes as long again to save
	}
	err := b.rt.post(ctx, rest.Stop{TimeoutSeconds: &limit}, nil, b.path("stop")...)
	return b.fail("stop", err)
}

func (b *remoteBox) Remove(ctx context.Context, o RemoveOptions) error {
	req := restclient.Request{Method: http.MethodDelete, Path: b.path()}
	if o.Force {
		req.Query = url.Values{"force": {"true"}}
	}
	err := b.rt.c.JSON(ctx, req, nil)
	if e, ok := errors.AsType[*restclient.Error](err); ok && e.Status == http.StatusNotFound {
		return nil // it has removed itself
	}
	return b.fail("remove", err)
}

func (b *remoteBox) Sync(ctx context.Context) error {
	return b.fail("sync", b.rt.post(ctx, nil, nil, b.path("sync")...))
}

func (b *remoteBox) Info(ctx context.Context) (BoxInfo, error) {
	var reply rest.Box
	err := b.rt.get(ctx, &reply, url.Values{"details": {"true"}}, b.path()...)
	if e, ok := errors.AsType[*restclient.Error](err); ok && e.Status == http.StatusNotFound {
		err = fmt.Errorf("box %w: it was removed", ErrNotFound)
	}
	if err != nil {
		return BoxInfo{}, b.fail("inspect", err)
	}
	info, err := infoOf(reply)
	return info, b.fail("inspect", err)
}

func (b *remoteBox) Stats(ctx context.Context) (Stats, error) {
	var m rest.Metrics
	if err := b.rt.get(ctx, &m, nil, b.path("metrics")...); err != nil {
		return Stats{}, b.fail("stats", err)
	}
	if m.MemoryBytes == nil {
		return Stats{}, b.fail("stats", fmt.Errorf("%w: it does not run; start it first", ErrState))
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	number := func(n *int64) int64 {
		if n == nil {
			return 0
		}
		return *n
	}
	return Stats{
		CPU: seconds(m.CPUSeconds), Memory: *m.MemoryBytes, MemoryLimit: m.MemoryLimitBytes, Executions: m.Executions,
		OOMKills: m.OOMKills, Uptime: seconds(m.UptimeSeconds),
		Network: NetworkStats{
			Sent: number(m.NetworkSent), Received: number(m.NetworkReceived), Connections: number(m.NetworkConnections),
			Open: m.NetworkOpen, Refused: m.NetworkRefused, Lookups: m.NetworkLookups,
		},
	}, nil
}

func (b *remoteBox) Logs(ctx context.Context, o LogOptions) (io.ReadCloser, error) {
	query := url.Values{"follow": {strconv.FormatBool(o.Follow)}}
	if o.Tail > 0 {
		query.Set("tail", strconv.Itoa(o.Tail))
	}
	r, err := b.rt.stream(ctx, restclient.Request{Method: http.MethodGet, Path: b.path("logs"), Query: query})
	return r, b.fail("logs", err)
}

func (b *remoteBox) NetworkLog(ctx context.Context, o NetworkLogOptions) iter.Seq2[egress.Event, error] {
	return func(yield func(egress.Event, error) bool) {
		r, err := b.rt.stream(ctx, restclient.Request{Method: http.MethodGet, Path: b.path("network", "log"), Query: url.Values{
			"refused": {strconv.FormatBool(o.Refused)}, "follow": {strconv.FormatBool(o.Follow)},
		}})
		if err != nil {
			yield(egress.Event{}, b.fail("network log", err))
			return
		}
		readEvents(r, func(e egress.Event, err error) bool { return yield(e, b.fail("network log", err)) })
	}
}

func (b *remoteBox) SetNetwork(ctx context.Context, p egress.Policy) error {
	if err := checkPolicy(p); err != nil {
		return b.fail("set network", err)
	}
	return b.fail("set network", b.rt.c.JSON(ctx, restclient.Request{
		Method: http.MethodPut, Path: b.path("network"), JSON: networkRequest(p),
	}, nil))
}

func (b *remoteBox) SetSecret(name, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), controlTimeout)
	defer cancel()
	return b.fail("set secret", b.rt.c.JSON(ctx, restclient.Request{
		Method: http.MethodPut, Path: b.path("secrets", name), JSON: rest.SecretValue{Value: value},
	}, nil))
}

func (b *remoteBox) connect(ctx context.Context, network string, port uint16) (boxStream, error) {
	conn, err := b.rt.c.Upgrade(ctx, restclient.Request{
		Path: b.path("network", "connect"), Query: url.Values{"network": {network}, "port": {strconv.Itoa(int(port))}},
	}, rest.TunnelProtocol)
	if err != nil {
		return nil, b.fail("dial", err)
	}
	if network[:3] == "udp" {
		return &datagrams{boxStream: conn}, nil
	}
	return conn, nil
}

// datagrams carries them over a stream, each with its length before it.
type datagrams struct {
	boxStream

	read sync.Mutex
	buf  []byte // a datagram that comes, after its length
	have int    // how much of buf has come

	write sync.Mutex
}

// maxDatagram is the largest that the length can say.
const maxDatagram = 1<<16 - 1

// Read goes on where one that was given up, at a deadline, has stood.
func (d *datagrams) Read(p []byte) (int, error) {
	d.read.Lock()
	defer d.read.Unlock()
	if d.buf == nil {
		d.buf = make([]byte, 2+maxDatagram)
	}
	if err := d.fill(2); err != nil {
		return 0, err
	}
	end := 2 + int(binary.BigEndian.Uint16(d.buf))
	if err := d.fill(end); err != nil {
		return 0, err
	}
	d.have = 0
	return copy(p, d.buf[2:end]), nil // what has no room is lost, as of any datagram
}

// fill reads until the first n bytes of buf have come.
func (d *datagrams) fill(n int) error {
	for d.have < n {
		m, err := d.boxStream.Read(d.buf[d.have:n])
		d.have += m
		switch {
		case err == nil || d.have == n:
		case errors.Is(err, io.EOF) && d.have > 0:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

// Write closes the stream if it was given up in the middle of a datagram.
func (d *datagrams) Write(p []byte) (int, error) {
	if len(p) > maxDatagram {
		return 0, syscall.EMSGSIZE
	}
	d.write.Lock()
	defer d.write.Unlock()
	all := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(p)), uint16(len(p)))
	n, err := d.boxStream.Write(append(all, p...))
	switch {
	case err == nil:
		return len(p), nil
	case n > 0:
		_ = d.Close()
	}
	return 0, err
}
