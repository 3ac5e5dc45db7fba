package egress

import "time"

// Kind says what an [Event] is about.
type Kind string

// The kinds of events.
const (
	KindFlow   Kind = "flow"   // a connection, a UDP flow, a ping
	KindDNS    Kind = "dns"    // a question to the resolver of the box
	KindHTTP   Kind = "http"   // one request of a flow whose names are checked
	KindSecret Kind = "secret" // a secret was put into a request
	KindPolicy Kind = "policy" // the policy was changed
)

// Direction is who began.
type Direction string

// The directions.
const (
	Out Direction = "out" // the box
	In  Direction = "in"  // the host, through a published port or Dial
)

// Event is a line of the audit log of a box: what was asked for and what became
// of it. It holds no content: no bodies, no headers, no paths of URLs.
//
// A flow that was allowed has two events, when it begins and, with Closed, when
// it ends; only the latter has Sent, Received and Duration.
type Event struct {
	Seq       uint64    `json:"seq"` // counts from 1 in the life of a network
	Time      time.Time `json:"time"`
	Kind      Kind      `json:"kind"`
	Direction Direction `json:"direction,omitempty"`
	Proto     Proto     `json:"proto,omitempty"`
	Name      string    `json:"name,omitempty"` // canonical, or what was asked for if it cannot be
	Addr      string    `json:"addr,omitempty"` // ip:port

	Verdict

	Sent     int64         `json:"sent,omitempty"`        // bytes, from the box
	Received int64         `json:"received,omitempty"`    // bytes, to the box
	Duration time.Duration `json:"duration_ns,omitempty"` // from begin to end
	Closed   bool          `json:"closed,omitempty"`
}
