// Package restapi serves the BoxLite REST dialect over the public Go API, and
// nothing else: what it cannot do, a Go program cannot do either. Shapes,
// codes and the WebSocket protocol are those that BoxLite's clients speak; what
// goes beyond them is additive and named in GET /v1/config.
//
// An execution's output is kept by the agent in its box. The server keeps
// none: each socket has a stream of its own to the agent, which waits for the
// socket. So a slow client costs no memory and holds up nobody else, and a
// server that was killed has lost nothing when it comes back.
package restapi
