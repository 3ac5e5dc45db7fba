package vnet

import "bytes"

// serveHTTP serves a connection of plain HTTP, each request of which is judged by
// its own host: a connection that began with an allowed host must not be used
// for another.
func (w *guarded) serveHTTP(head []byte) {
	h2 := bytes.HasPrefix(head, []byte("PRI "))
	s := w.newSession(head, protocols(!h2, h2))
	if s == nil {
		return
	}
	defer s.end()
	w.proxy.serve(s, &sessionConn{conn: w.client, session: s})
}
