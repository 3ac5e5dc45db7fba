// Package guest is the protocol between a host and the agent in a box, and its
// host side. The in-box side is package agent.
//
// A stream carries frames: type (1 byte), payload length (4 bytes, big-endian,
// at most [MaxFrame]), payload. Control payloads are JSON, data payloads raw.
// The first frame both ways is [Hello]; the second, from the host, is a request
// that says what the stream is for. One stream serves one request.
package guest
