package rest

// Config is what a server can do.
type Config struct {
	Version      string         `json:"version"`
	Defaults     map[string]any `json:"defaults"`
	Overrides    map[string]any `json:"overrides"`
	Capabilities map[string]any `json:"capabilities"`
	Extensions   []string       `json:"extensions"`
}

// Me is who asks.
type Me struct {
	Sub           string   `json:"sub"`
	PrincipalType string   `json:"principal_type"`
	Scopes        []string `json:"scopes"`
	PathPrefix    *string  `json:"path_prefix"`
	ExpiresAt     *string  `json:"expires_at"`
}

// Info describes the server's home of boxes and images.
type Info struct {
	Version string         `json:"version"`
	Home    string         `json:"home"`
	Engine  string         `json:"engine"`
	Boxes   map[string]int `json:"boxes"` // by state
	Images  int            `json:"images"`
	OS      string         `json:"os"`
	Arch    string         `json:"arch"`
}

// Engines is what the server's host can run.
type Engines struct {
	Engines []Engine `json:"engines"`
}

// Engine is one way to run boxes.
type Engine struct {
	Name   string `json:"name"`
	Error  *Fault `json:"error,omitempty"` // nil: it works
	TookMS int64  `json:"took_ms"`
}

// LeaseHeader names the lease of the client that a box started by the request
// belongs to.
const LeaseHeader = "Boxlite-Lease"

// Lease is the text frame that begins a lease.
type Lease struct {
	Lease string `json:"lease"`
}

// TunnelProtocol is what a connection to a port of a box is upgraded to: for
// TCP the bytes as they are, for UDP datagrams with their length before each,
// two bytes, big-endian.
const TunnelProtocol = "boxlite-tunnel"
