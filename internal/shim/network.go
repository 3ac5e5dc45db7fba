package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/undo"
	"github.com/boxlite-go/boxlite/internal/vnet"
)

// Network is what a box has besides its loopback device.
type Network struct {
	Policy   egress.Policy  `json:"policy"`
	Ports    []Port         `json:"ports,omitempty"`
	Secrets  []Secret       `json:"secrets,omitempty"`
	Resolver netip.AddrPort `json:"resolver,omitzero"` // zero: the host's configuration
}

// Port is a port of the box that is published on the host.
type Port struct {
	Proto egress.Proto   `json:"proto"`
	Host  netip.AddrPort `json:"host"`
	Box   uint16         `json:"box"`
}

// Secret is a value for hosts, and what the box has in its place. It is sent to
// a shim through a pipe, and written nowhere.
type Secret struct {
	Name        string   `json:"name"`
	Value       string   `json:"value"`
	Placeholder string   `json:"placeholder"`
	Hosts       []string `json:"hosts"`
}

// String tells the secret without its value.
func (s Secret) String() string { return "secret " + s.Name }

// GoString is String.
func (s Secret) GoString() string { return s.String() }

// LogValue is String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// NetworkStats is what a box did on the network since its start.
type NetworkStats struct {
	Sent        int64 `json:"sent"`
	Received    int64 `json:"received"`
	Connections int64 `json:"connections"`
	Open        int64 `json:"open"`
	Refused     int64 `json:"refused"`
	Lookups     int64 `json:"lookups"`
}

// NetworkLogPath is the file with the events of the network of the box in dir,
// one JSON object a line. The part before the last rotation is in the same name
// with ".1".
func NetworkLogPath(dir string) string { return filepath.Join(dir, "logs", "network.jsonl") }

// network is that of a running box.
type network struct {
	stack *vnet.Network
	log   *eventLog
	ports []Port // as they are published

	ctx     context.Context // ends with the network: it owns streams
	cancel  context.CancelFunc
	streams sync.WaitGroup // connections into the box that we carry for callers

	mu   sync.Mutex // streams grows only while it is held and ctx goes on
	open int        // of streams, now
}

// openNetwork makes a network and listens on its published ports, which are
// served from Accept on.
func openNetwork(spec *Network, dir string) (_ *network, err error) {
	var u undo.Stack
	defer u.Run()
	n := &network{}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	u.Add(n.cancel)
	if n.log, err = newEventLog(NetworkLogPath(dir)); err != nil {
		return nil, fmt.Errorf("log of the network: %w", err)
	}
	u.Add(n.log.Close)
	config := vnet.Config{Policy: spec.Policy, Record: n.log.record, Resolver: spec.Resolver}
	for _, s := range spec.Secrets {
		config.Secrets = append(config.Secrets, vnet.Secret(s))
	}
	if n.stack, err = vnet.New(config); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	u.Add(func() { _ = n.stack.Close() })
	if err := n.publish(spec.Ports); err != nil {
		return nil, err
	}
	u.Keep()
	return n, nil
}

func (n *network) publish(ports []Port) error {
	if len(ports) == 0 {
		return nil
	}
	list := make([]vnet.Port, len(ports))
	for i, p := range ports {
		list[i] = vnet.Port(p)
	}
	list, err := n.stack.Publish(list)
	if err != nil {
		return publishFault(err)
	}
	for _, p := range list {
		n.ports = append(n.ports, Port(p))
	}
	return nil
}

// publishFault tells a port that is taken from other errors.
func publishFault(err error) error {
	f := &Fault{Kind: KindFailed, Message: err.Error()}
	if errors.Is(err, unix.EADDRINUSE) {
		f.Kind = KindTaken
	}
	return f
}

// nic is what the machine gets.
func (n *network) nic() *engine.NIC {
	return &engine.NIC{
		Link: n.stack.Link(), MTU: vnet.MTU, MAC: vnet.BoxMAC,
		Addrs:    []netip.Prefix{vnet.BoxIPv4, vnet.BoxIPv6},
		Gateways: []netip.Addr{vnet.Gateway4, vnet.Gateway6},
		// The resolver answers at the other address too. Some programs ask all
		// servers at once, so naming both would double the questions.
		Resolvers: []netip.Addr{vnet.Gateway4},
	}
}

// trust makes the box trust the authority of its secrets, if it has any.
func (n *network) trust(ctx context.Context, c *guest.Client) error {
	ca := n.stack.CA()
	if ca == nil {
		return nil
	}
	if err := c.Trust(ctx, guest.Trust{CA: ca, Roots: hostRoots()}); err != nil {
		return fmt.Errorf("the box cannot be made to trust the certificates its secrets need: %w", err)
	}
	return nil
}

// close ends all flows. Nothing of the network is left then.
func (n *network) close() error {
	n.mu.Lock()
	n.cancel()
	n.mu.Unlock()
	err := n.stack.Close()
	n.streams.Wait()
	n.log.Close()
	return err
}

func (n *network) stats() *NetworkStats {
	s := n.stack.Stats()
	return &NetworkStats{
		Sent: int64(s.Sent), Received: int64(s.Received), Connections: int64(s.Connections),
		Open: int64(s.Open), Refused: int64(s.Refused), Lookups: int64(s.DNSQueries),
	}
}

// openNetwork makes the network of the box, before its machine.
func (o *owner) openNetwork() (err error) {
	if o.spec.Network == nil {
		return nil
	}
	if o.net, err = openNetwork(o.spec.Network, o.spec.Dir); err != nil {
		return err
	}
	o.spec.Machine.NIC = o.net.nic()
	o.spec.Network = nil // values of secrets are in one place
	return nil
}

// joinNetwork lets the box and its network at each other, before anything runs
// in the box.
func (o *owner) joinNetwork(ctx context.Context) error {
	if o.net == nil {
		return nil
	}
	o.net.stack.Link().Close() // the machine has its own
	if err := o.net.trust(ctx, o.guest); err != nil {
		return err
	}
	o.net.stack.Accept()
	return nil
}

// leaveNetwork ends what the box has on the network.
func (o *owner) leaveNetwork() error {
	if o.net == nil {
		return nil
	}
	return o.net.close()
}

// errOffline says that the box has no network.
var errOffline = &Fault{Kind: KindUnsupported, Message: "the network of the box is disabled"}

// connect opens a connection into the box; nil on an error.
func (o *owner) connect(ctx context.Context, req request) (io.Closer, error) {
	if o.net == nil {
		return nil, errOffline
	}
	f, err := o.net.connect(ctx, req.Network, req.Port)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// setPolicy changes what the box may reach. The file has the policy in JSON.
func (o *owner) setPolicy(f *os.File) error {
	switch {
	case o.net == nil:
		return errOffline
	case f == nil:
		return errors.New("no policy came with the request")
	}
	var p egress.Policy
	if err := json.NewDecoder(io.NewSectionReader(f, 0, maxPolicy)).Decode(&p); err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	return o.net.stack.SetPolicy(p)
}
