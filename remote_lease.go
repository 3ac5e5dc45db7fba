package boxlite

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
	"github.com/coder/websocket"
)

// lease is a socket that the server watches: when it ends, however that comes,
// the boxes that were started in its name are stopped.
type lease struct {
	id   string
	conn *websocket.Conn
	done chan struct{} // closed when the socket has ended
}

// leaseHeader names the lease of this runtime in a request that may start a box,
// and opens one if there is none.
func (r *remote) leaseHeader(ctx context.Context) (http.Header, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	if r.lease == nil || closed(r.lease.done) {
		l, err := openLease(ctx, r.c)
		if err != nil {
			return nil, err
		}
		r.lease = l
	}
	return http.Header{rest.LeaseHeader: {r.lease.id}}, nil
}

func openLease(ctx context.Context, c *restclient.Client) (*lease, error) {
	conn, err := c.Socket(ctx, restclient.Request{Path: []string{"lease"}})
	if err != nil {
		return nil, err
	}
	var hello rest.Lease
	_, text, err := conn.Read(ctx)
	if err == nil {
		err = json.Unmarshal(text, &hello)
	}
	if err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	l := &lease{id: hello.Lease, conn: conn, done: make(chan struct{})}
	go func() { // ends with the socket; it answers the server's pings
		defer close(l.done)
		_, _, _ = conn.Read(context.Background()) // nothing comes but the end
	}()
	return l, nil
}

// leaseEnd is how long the boxes of a lease may take to stop: the two minutes that
// the server gives them, and a moment to say so.
const leaseEnd = 2*time.Minute + 10*time.Second

// end has the boxes stopped and waits for that.
func (l *lease) end() {
	ctx, cancel := context.WithTimeout(context.Background(), leaseEnd)
	defer cancel()
	_ = l.conn.Write(ctx, websocket.MessageText, []byte("{}")) // a socket that is gone has told the server already
	select {
	case <-l.done:
	case <-ctx.Done():
	}
	_ = l.conn.CloseNow()
	<-l.done
}
