package egress

import (
	"errors"
	"fmt"
)

// Mode says what happens to a flow that no rule and no refusal is for.
type Mode string

// The modes. The zero Mode is Enabled.
const (
	Enabled   Mode = "enabled"   // public addresses are reached
	AllowList Mode = "allowlist" // only what an Allow rule is for
	Disabled  Mode = "disabled"  // nothing: the box has no network
)

// ErrPolicy says that a policy contradicts itself or is too large.
var ErrPolicy = errors.New("invalid network policy")

// maxRules bounds the work of one decision: with a thousand names it takes some
// thirty microseconds, which is little beside a connection.
const maxRules = 1024

// Policy is what a box may reach. The zero value allows the public internet and
// nothing else. A Policy that nobody changes may be used by many goroutines.
type Policy struct {
	Mode  Mode   `json:"mode,omitempty"`
	Allow []Rule `json:"allow,omitempty"`
	Deny  []Rule `json:"deny,omitempty"` // stronger than Allow
}

// Check tells what is wrong with the policy. The error is [ErrPolicy].
func (p *Policy) Check() error {
	switch p.mode() {
	case Enabled, AllowList:
	case Disabled:
		if len(p.Allow)+len(p.Deny) > 0 {
			return fmt.Errorf("%w: mode %q has no network for rules to be about: leave out the rules or the mode", ErrPolicy, p.Mode)
		}
	default:
		return fmt.Errorf("%w: mode %q: give %q, %q or %q", ErrPolicy, p.Mode, Enabled, AllowList, Disabled)
	}
	if n := len(p.Allow) + len(p.Deny); n > maxRules {
		return fmt.Errorf("%w: %d rules: at most %d; use wildcards or prefixes", ErrPolicy, n, maxRules)
	}
	for _, rules := range [][]Rule{p.Allow, p.Deny} {
		for i := range rules {
			if rules[i].target == nothing {
				return fmt.Errorf("%w: a rule is empty: make rules with Parse", ErrPolicy)
			}
		}
	}
	return nil
}

func (p *Policy) mode() Mode {
	if p.Mode == "" {
		return Enabled
	}
	return p.Mode
}

// Action is what to do with a flow.
type Action string

// The actions. What is none of them is not allowed.
const (
	Deny  Action = "deny"
	Allow Action = "allow"

	// Sniff allows the connection for the sake of a name: hold what the
	// client sends until it says one, set [Flow.Host] and decide again.
	Sniff Action = "sniff"
)

// Reason says why something was refused, in words for the user.
type Reason string

// The reasons. Those after ReasonNoName are found by the network, not by Decide.
const (
	ReasonDisabled   Reason = "the network is disabled"
	ReasonRule       Reason = "denied by a rule"
	ReasonNotAllowed Reason = "no rule allows it"
	ReasonLoopback   Reason = "loopback address"
	ReasonPrivate    Reason = "private address"
	ReasonMetadata   Reason = "link-local or metadata address"
	ReasonMulticast  Reason = "multicast or broadcast address"
	ReasonReserved   Reason = "reserved address"
	ReasonHost       Reason = "address of the host"
	ReasonAlias      Reason = "no rule allows host.boxlite.internal"
	ReasonDNS        Reason = "DNS beside the resolver of the box"
	ReasonUDP        Reason = "UDP is opened for a name only by a rule with udp:"
	ReasonQUIC       Reason = "QUIC hides the name of the host"
	ReasonBadName    Reason = "not a host name"
	ReasonName       Reason = "the host named is not the one that was looked up"
	ReasonNoName     Reason = "the client does not say which host it means"

	ReasonRecord Reason = "record type"
	ReasonLimit  Reason = "too many at once"
	ReasonSecret Reason = "the secret is for other hosts, or for https only"
	ReasonSource Reason = "not the address of the box"
	ReasonPing   Reason = "the host gives no socket for a ping to it"

	ReasonAuthority Reason = "the program does not trust the certificate authority of the box"
)

// What Verdict.Rule says where no rule decided.
const (
	ByDefault = "default" // the mode
	BuiltIn   = "builtin" // what is refused in every mode
)

// Verdict is a decision and what it rests on.
type Verdict struct {
	Action Action `json:"action"`
	Rule   string `json:"rule"`             // as it was written, or ByDefault, or BuiltIn
	Reason Reason `json:"reason,omitempty"` // of a refusal
}

// String says the verdict in a line.
func (v Verdict) String() string {
	if v.Reason == "" {
		return fmt.Sprintf("%s (%s)", v.Action, v.Rule)
	}
	return fmt.Sprintf("%s: %s (%s)", v.Action, v.Reason, v.Rule)
}

func deny(rule string, why Reason) Verdict { return Verdict{Deny, rule, why} }
func allow(rule string) Verdict            { return Verdict{Action: Allow, Rule: rule} }

// Fix says what the owner of the box can do about a refusal, or nothing.
func (r Reason) Fix() string {
	switch r {
	case ReasonNotAllowed:
		return "allow its name or its address"
	case ReasonLoopback, ReasonPrivate, ReasonMetadata, ReasonMulticast, ReasonReserved:
		return "allow its address, or a prefix of such addresses; a name does not open it"
	case ReasonHost:
		return "allow this very address"
	case ReasonAlias:
		return "allow " + HostAlias + " and the port"
	case ReasonDNS:
		return "use the resolver of the box, or allow the address and port of this one"
	case ReasonUDP, ReasonQUIC:
		return "allow udp: and the name, which opens all hosts behind its addresses"
	case ReasonNoName:
		return "allow its address"
	case ReasonPing:
		return `if no user may ping, run "sysctl net.ipv4.ping_group_range='0 2147483647'" on the host`
	case ReasonName:
		return "look up the name that is used, and allow it"
	}
	return ""
}
