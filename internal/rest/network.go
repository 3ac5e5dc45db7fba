package rest

// Network is what a box may reach.
type Network struct {
	Outbound *Direction `json:"outbound,omitempty"`
	Inbound  *Direction `json:"inbound,omitempty"`
	Mode     string     `json:"mode,omitempty"`      // deprecated
	AllowNet []string   `json:"allow_net,omitempty"` // deprecated
}

// Direction is one half of it.
type Direction struct {
	Mode     string   `json:"mode"`
	AllowNet []string `json:"allow_net,omitempty"`
	DenyNet  []string `json:"deny_net,omitempty"` // beyond BoxLite
}

// Modes of a direction. With Enabled a list of what is allowed means that
// nothing else is.
const (
	Enabled  = "enabled"
	Disabled = "disabled"

	// Beyond BoxLite.
	Public    = "public"    // the public internet, and what is allowed besides
	AllowList = "allowlist" // what is allowed alone, also if that is nothing
)

// Port is one that is published.
type Port struct {
	GuestPort uint16 `json:"guest_port"`
	HostPort  uint16 `json:"host_port"`
	HostIP    string `json:"host_ip"`
	Protocol  string `json:"protocol"`
}

// Secret is one that a box may use without seeing it.
type Secret struct {
	Name        string   `json:"name"`
	Value       string   `json:"value"`
	Hosts       []string `json:"hosts"`
	Placeholder string   `json:"placeholder"`
}

// SecretValue is the body of PUT /v1/boxes/{id}/secrets/{name}.
type SecretValue struct {
	Value string `json:"value"`
}

// NetworkState is what a box may reach, and where it is reached.
type NetworkState struct {
	Outbound DirectionState `json:"outbound"`
	Inbound  DirectionState `json:"inbound"`
	Mode     string         `json:"mode"`      // deprecated
	AllowNet []string       `json:"allow_net"` // deprecated
	Ports    []Port         `json:"published_ports"`
}

// DirectionState is one half of it.
type DirectionState struct {
	Mode     string   `json:"mode"`
	AllowNet []string `json:"allow_net"`
	DenyNet  []string `json:"deny_net,omitempty"`
}
