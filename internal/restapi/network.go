package restapi

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

type networkRequest struct {
	Outbound *directionRequest `json:"outbound"`
	Inbound  *directionRequest `json:"inbound"`
	Mode     string            `json:"mode"`      // deprecated
	AllowNet []string          `json:"allow_net"` // deprecated
}

type directionRequest struct {
	Mode     string   `json:"mode"`
	AllowNet []string `json:"allow_net"`
	DenyNet  []string `json:"deny_net"` // beyond BoxLite
}

type portShape struct {
	GuestPort uint16 `json:"guest_port"`
	HostPort  uint16 `json:"host_port"`
	HostIP    string `json:"host_ip"`
	Protocol  string `json:"protocol"`
}

type secretRequest struct {
	Name        string   `json:"name"`
	Value       string   `json:"value"`
	Hosts       []string `json:"hosts"`
	Placeholder string   `json:"placeholder"`
}

// networkReply is what a box may reach, and where it is reached.
type networkReply struct {
	Outbound directionReply `json:"outbound"`
	Inbound  directionReply `json:"inbound"`
	Mode     string         `json:"mode"`      // deprecated
	AllowNet []string       `json:"allow_net"` // deprecated
	Ports    []portShape    `json:"published_ports"`
}

type directionReply struct {
	Mode     string   `json:"mode"`
	AllowNet []string `json:"allow_net"`
	DenyNet  []string `json:"deny_net,omitempty"`
}

// Modes of a direction.
const (
	modeEnabled  = "enabled"
	modeDisabled = "disabled"
)

// policy turns what a client asks for into what the Go API takes. A list of
// what is allowed means that nothing else is.
func (n *networkRequest) policy() (p egress.Policy, err error) {
	if n == nil {
		return p, nil
	}
	out := n.Outbound
	if n.Mode != "" || n.AllowNet != nil {
		if out != nil {
			return p, httpapi.InvalidArgument.Errorf("network: give outbound, or the deprecated mode and allow_net, not both")
		}
		out = &directionRequest{Mode: n.Mode, AllowNet: n.AllowNet}
	}
	for _, d := range []struct {
		name string
		*directionRequest
	}{{"outbound", out}, {"inbound", n.Inbound}} {
		if d.directionRequest != nil && d.Mode != modeEnabled && d.Mode != modeDisabled {
			return p, httpapi.InvalidArgument.Errorf("network.%s.mode %.40q: give enabled or disabled", d.name, d.Mode)
		}
	}
	if n.Inbound != nil && len(n.Inbound.AllowNet)+len(n.Inbound.DenyNet) > 0 {
		return p, httpapi.InvalidArgument.Errorf("network.inbound.allow_net: must be empty")
	}
	if out == nil {
		return p, nil
	}
	if p.Allow, err = rules("network.outbound.allow_net", out.AllowNet); err != nil {
		return p, err
	}
	if p.Deny, err = rules("network.outbound.deny_net", out.DenyNet); err != nil {
		return p, err
	}
	switch {
	case out.Mode == modeDisabled && len(p.Allow)+len(p.Deny) > 0:
		return p, httpapi.InvalidArgument.Errorf("network.outbound: disabled, with rules: leave out one of them")
	case out.Mode == modeDisabled:
		p.Mode = egress.Disabled
	case len(p.Allow) > 0:
		p.Mode = egress.AllowList
	}
	return p, nil
}

func rules(field string, list []string) (out []egress.Rule, err error) {
	for _, s := range list {
		r, err := egress.Parse(s)
		if err != nil {
			return nil, httpapi.InvalidArgument.Errorf("%s %.100q: %v", field, s, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// connect sets what a box has of the network.
func connect(req *createRequest, o *boxlite.BoxOptions) (err error) {
	if o.Network, err = req.Network.policy(); err != nil {
		return err
	}
	for _, p := range req.Ports {
		o.Ports = append(o.Ports, boxlite.Port{HostIP: p.HostIP, HostPort: p.HostPort, BoxPort: p.GuestPort, Proto: p.Protocol})
	}
	for _, s := range req.Secrets {
		o.Secrets = append(o.Secrets, boxlite.Secret(s))
	}
	return nil
}

func networkOf(i boxlite.BoxInfo) *networkReply {
	p := i.Options.Network
	out := directionReply{Mode: modeEnabled, AllowNet: texts(p.Allow), DenyNet: texts(p.Deny)}
	if p.Mode == egress.Disabled || i.Options.Security.NetworkDisabled {
		out.Mode = modeDisabled
	}
	n := &networkReply{
		Outbound: out, Inbound: directionReply{Mode: modeDisabled, AllowNet: []string{}},
		Mode: out.Mode, AllowNet: out.AllowNet, Ports: []portShape{},
	}
	for _, port := range i.Ports {
		n.Inbound.Mode = modeEnabled
		n.Ports = append(n.Ports, portShape{port.BoxPort, port.HostPort, port.HostIP, port.Proto})
	}
	return n
}

func texts(rules []egress.Rule) []string {
	out := []string{}
	for _, r := range rules {
		out = append(out, r.String())
	}
	return out
}

// setNetwork changes what a box may reach, at once.
func (s *Server) setNetwork(w http.ResponseWriter, r *http.Request) error {
	var req networkRequest
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	p, err := req.policy()
	if err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := b.SetNetwork(r.Context(), p); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

type secretValue struct {
	Value string `json:"value"`
}

// setSecret gives a secret its value: at first, or a new one, or once more
// after the server was started anew.
func (s *Server) setSecret(w http.ResponseWriter, r *http.Request) error {
	var req secretValue
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	if err := b.SetSecret(r.PathValue("name"), req.Value); err != nil {
		return err
	}
	s.vault.put(b.ID(), r.PathValue("name"), req.Value)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// networkLog tells what a box did on the network, a line of JSON for each.
func (s *Server) networkLog(w http.ResponseWriter, r *http.Request) error {
	var o boxlite.NetworkLogOptions
	var err error
	if o.Refused, err = boolQuery(r, "refused", false); err != nil {
		return err
	}
	if o.Follow, err = boolQuery(r, "follow", false); err != nil {
		return err
	}
	b, err := s.box(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(&stalling{w, rc})
	sent := time.Time{}
	for e, err := range b.NetworkLog(r.Context(), o) {
		if err == nil {
			err = enc.Encode(e)
		}
		if err != nil && r.Context().Err() == nil {
			s.log.Warn("network log broke off", "box", b.ID(), "err", err)
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			return nil //nolint:nilerr // the client hung up
		}
		if o.Follow && time.Since(sent) > flushEvery {
			_ = rc.Flush() // what is left comes with the next line, or at the end
			sent = time.Now()
		}
	}
	return nil
}

// flushEvery is how long lines of a log that is followed may be gathered.
const flushEvery = 50 * time.Millisecond
