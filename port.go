package boxlite

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/boxlite-go/boxlite/egress"
)

// Port is a port of a box that is published on the host. Connections to the
// host's port are made to the box's, from its gateway.
type Port struct {
	// HostIP is the address of the host to listen on. Empty means 127.0.0.1:
	// this host alone. "0.0.0.0" is all its addresses of IPv4, "::" all it has.
	HostIP string `json:"host_ip,omitempty"`
	// HostPort 0 is chosen by the host when the box starts; [BoxInfo.Ports]
	// tells which it is.
	HostPort uint16 `json:"host_port,omitempty"`
	BoxPort  uint16 `json:"box_port"`
	// Proto is "tcp" or "udp". Empty means "tcp".
	Proto string `json:"proto,omitempty"`
}

// maxPorts bounds the published ports of a box.
const maxPorts = 256

// String returns the port as [ParsePort] takes it.
func (p Port) String() string {
	ip := p.HostIP
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	s := strconv.Itoa(int(p.BoxPort))
	if ip != "" || p.HostPort != 0 {
		s = strconv.Itoa(int(p.HostPort)) + ":" + s
	}
	if ip != "" {
		s = ip + ":" + s
	}
	if p.Proto != "" && p.Proto != string(egress.TCP) {
		s += "/" + p.Proto
	}
	return s
}

// ParsePort reads a port as docker takes it: [HOST_IP:][HOST:]BOX[/tcp|/udp].
// An IPv6 address stands in brackets. Without a port of the host, or with 0,
// the host chooses one. The error is [ErrInvalid].
func ParsePort(s string) (Port, error) {
	p, err := parsePort(s)
	if err == nil {
		err = p.check()
	}
	if err != nil {
		return Port{}, fmt.Errorf("%w: port %q: %w", ErrInvalid, s, err)
	}
	return p, nil
}

func parsePort(s string) (p Port, err error) {
	rest, proto, found := strings.Cut(s, "/")
	if p.Proto = strings.ToLower(proto); found && p.Proto == "" {
		return p, fmt.Errorf("nothing after %q: want tcp or udp", "/")
	}
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		ip, after, closed := strings.Cut(inner, "]:")
		if !closed || !strings.Contains(ip, ":") {
			return p, fmt.Errorf("want [IPV6]:HOST:BOX")
		}
		p.HostIP, rest = ip, after
	}
	parts := strings.Split(rest, ":")
	if p.HostIP == "" && len(parts) > 1 && (len(parts) > 2 || strings.Contains(parts[0], ".")) {
		p.HostIP, parts = parts[0], parts[1:]
		if p.HostIP == "" {
			return p, fmt.Errorf("no address before the first colon")
		}
	}
	switch {
	case len(parts) > 2:
		return p, fmt.Errorf("want [HOST_IP:][HOST:]BOX[/tcp|/udp]; an IPv6 address stands in brackets")
	case len(parts) == 2 && parts[0] != "": // "IP::BOX" has it chosen
		if p.HostPort, err = portNumber(parts[0]); err != nil {
			return p, err
		}
	}
	p.BoxPort, err = portNumber(parts[len(parts)-1])
	return p, err
}

func portNumber(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port: give a number up to 65535", s)
	}
	return uint16(n), nil
}

func (p *Port) check() error {
	if p.BoxPort == 0 {
		return fmt.Errorf("no port of the box: give 1 to 65535")
	}
	switch p.Proto {
	case "", string(egress.TCP), string(egress.UDP):
	default:
		return fmt.Errorf("protocol %q: want tcp or udp", p.Proto)
	}
	if p.HostIP == "" {
		return nil
	}
	if a, err := netip.ParseAddr(p.HostIP); err != nil || a.Zone() != "" {
		return fmt.Errorf("host address %q: give an IP address without a zone", p.HostIP)
	}
	return nil
}

// host is where the host listens. The port has been checked.
func (p *Port) host() netip.AddrPort {
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if a, err := netip.ParseAddr(p.HostIP); err == nil {
		addr = a
	}
	return netip.AddrPortFrom(addr, p.HostPort)
}

func (p *Port) proto() egress.Proto {
	if p.Proto == "" {
		return egress.TCP
	}
	return egress.Proto(p.Proto)
}

// checkPorts finds what could never be listened on together.
func checkPorts(ports []Port) error {
	if len(ports) > maxPorts {
		return fmt.Errorf("%w: %d published ports: at most %d", ErrInvalid, len(ports), maxPorts)
	}
	type place struct {
		proto egress.Proto
		port  netip.AddrPort
	}
	taken := map[place]string{}
	for _, p := range ports {
		if err := p.check(); err != nil {
			return fmt.Errorf("%w: port %s: %w", ErrInvalid, p, err)
		}
		at := place{p.proto(), p.host()}
		if other, ok := taken[at]; ok && p.HostPort != 0 {
			return fmt.Errorf("%w: ports %s and %s have the same port of the host", ErrInvalid, other, p)
		}
		taken[at] = p.String()
	}
	return nil
}
