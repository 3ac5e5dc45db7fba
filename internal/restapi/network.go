package restapi

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// policyOf turns what a client asks for into what the Go API takes.
func policyOf(n *rest.Network) (p egress.Policy, err error) {
	if n == nil {
		return p, nil
	}
	out := n.Outbound
	if n.Mode != "" || n.AllowNet != nil {
		if out != nil {
			return p, httpapi.InvalidArgument.Errorf("network: give outbound, or the deprecated mode and allow_net, not both")
		}
		out = &rest.Direction{Mode: n.Mode, AllowNet: n.AllowNet}
	}
	if in := n.Inbound; in != nil {
		switch {
		case in.Mode != rest.Enabled && in.Mode != rest.Disabled:
			return p, httpapi.InvalidArgument.Errorf("network.inbound.mode %.40q: give enabled or disabled", in.Mode)
		case len(in.AllowNet)+len(in.DenyNet) > 0:
			return p, httpapi.InvalidArgument.Errorf("network.inbound.allow_net: must be empty")
		}
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
	p.Mode, err = modeOf(out.Mode, &p)
	return p, err
}

// modeOf is the mode of a policy whose rules are set. With rest.Enabled a list
// of what is allowed means that nothing else is.
func modeOf(mode string, p *egress.Policy) (egress.Mode, error) {
	switch {
	case mode == rest.Disabled && len(p.Allow)+len(p.Deny) > 0:
		return "", httpapi.InvalidArgument.Errorf("network.outbound: disabled, with rules: leave out one of them")
	case mode == rest.Disabled:
		return egress.Disabled, nil
	case mode == rest.AllowList, mode == rest.Enabled && len(p.Allow) > 0:
		return egress.AllowList, nil
	case mode == rest.Public:
		return egress.Enabled, nil
	case mode == rest.Enabled:
		return "", nil
	}
	return "", httpapi.InvalidArgument.Errorf("network.outbound.mode %.40q: give enabled or disabled, or, beyond BoxLite, public or allowlist", mode)
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

// networkOptions sets what a box has of the network.
func networkOptions(req *rest.CreateBox, o *boxlite.BoxOptions) (err error) {
	if o.Network, err = policyOf(req.Network); err != nil {
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

func networkOf(i boxlite.BoxInfo) *rest.NetworkState {
	p := i.Options.Network
	out := rest.DirectionState{Mode: rest.Enabled, AllowNet: texts(p.Allow), DenyNet: texts(p.Deny)}
	if p.Mode == egress.Disabled || i.Options.Security.NetworkDisabled {
		out.Mode = rest.Disabled
	}
	n := &rest.NetworkState{
		Outbound: out, Inbound: rest.DirectionState{Mode: rest.Disabled, AllowNet: []string{}},
		Mode: out.Mode, AllowNet: out.AllowNet, Ports: []rest.Port{},
	}
	for _, port := range i.Ports {
		n.Inbound.Mode = rest.Enabled
		n.Ports = append(n.Ports, rest.Port{GuestPort: port.BoxPort, HostPort: port.HostPort, HostIP: port.HostIP, Protocol: port.Proto})
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
	var req rest.Network
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	p, err := policyOf(&req)
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

// setSecret gives a secret its value: at first, or a new one, or once more
// after the server was started anew.
func (s *Server) setSecret(w http.ResponseWriter, r *http.Request) error {
	var req rest.SecretValue
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
	out := newLive(w)
	defer out.end()
	enc := json.NewEncoder(out)
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
	}
	return nil
}

// gather is how long what a log that is followed has to say may wait for more.
const gather = 50 * time.Millisecond

// live is an answer that comes while it is made: what is written is on its way
// soon after, together with what is written until then.
type live struct {
	mu    sync.Mutex
	to    stalling
	timer *time.Timer
	late  bool // something waits for the timer
	over  bool
}

func newLive(w http.ResponseWriter) *live {
	l := &live{to: stalling{w, http.NewResponseController(w)}}
	l.timer = time.AfterFunc(gather, l.flush)
	return l
}

func (l *live) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.late {
		l.late = true
		l.timer.Reset(gather)
	}
	return l.to.Write(p)
}

func (l *live) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.late = false
		_ = l.to.rc.Flush() // that it fails shows at the next write
	}
}

// end is called before the handler returns. What is left goes with its end.
func (l *live) end() {
	l.timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}
