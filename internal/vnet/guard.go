package vnet

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

// headTimeout is how long a client may take to say which host it wants: what
// servers allow for the head of a request.
const headTimeout = 30 * time.Second

// alertTimeout is how long a client may take to read why it is refused, as package
// tls has it.
const alertTimeout = 5 * time.Second

// gateConfig is what a gate needs of its network.
type gateConfig struct {
	policy  func() *egress.Policy
	note    func(egress.Event)
	secrets []Secret
	roots   *x509.CertPool // that the hosts of secrets are verified with; nil: the system's
}

// gate lets flows through whose client must say a name first, and puts secrets
// into those that may have them.
type gate struct {
	policy    func() *egress.Policy
	note      func(egress.Event)
	roots     *x509.CertPool
	secrets   []secret
	authority *authority // nil without secrets
	proxy     *proxy

	bodies atomic.Int64 // bytes of requests in memory

	mu    sync.Mutex
	flows map[*watched]struct{}
}

// watched is what was allowed with a host in it, while it goes on.
type watched struct {
	flow  egress.Flow
	reset func()
}

// newGate starts nothing until it is needed.
func newGate(c gateConfig) (*gate, error) {
	secrets, err := checkSecrets(c.secrets)
	if err != nil {
		return nil, err
	}
	g := &gate{
		policy: c.policy, note: c.note, roots: c.roots,
		secrets: secrets, proxy: newProxy(), flows: map[*watched]struct{}{},
	}
	if len(secrets) > 0 {
		if g.authority, err = newAuthority(secrets); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// close ends what the gate started. Flows must have ended, or their contexts.
func (g *gate) close() { g.proxy.close() }

// ca is the certificate of the authority in PEM, nil without secrets.
func (g *gate) ca() []byte {
	if g.authority == nil {
		return nil
	}
	return g.authority.pem
}

// wants tells whether a TCP flow to an address that was given out under these
// names must come through guard, even if the policy allows it as it is.
func (g *gate) wants(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return len(g.secretsFor(n)) > 0 })
}

// secretsFor returns the secrets that the host may have.
func (g *gate) secretsFor(name string) (found []*secret) {
	for i := range g.secrets {
		if s := &g.secrets[i]; s.isFor(name) {
			found = append(found, s)
		}
	}
	return found
}

// watch has a flow reset when the policy no longer allows it, until unwatch is
// called. It must be called before the flow is decided, so that no change of
// policy is missed.
func (g *gate) watch(f egress.Flow, reset func()) (unwatch func()) {
	w := &watched{f, reset}
	g.mu.Lock()
	g.flows[w] = struct{}{}
	g.mu.Unlock()
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.flows, w)
	}
}

// recheck resets what the policy no longer allows. The network calls it after a
// change of policy; flows without a host it judges itself.
func (g *gate) recheck() {
	p := g.policy()
	var refused []*watched
	g.mu.Lock()
	for w := range g.flows {
		if p.Decide(w.flow).Action == egress.Deny {
			refused = append(refused, w)
		}
	}
	g.mu.Unlock()
	for _, w := range refused {
		w.reset()
	}
}

// guarded is one flow on its way through the gate.
type guarded struct {
	*gate
	flow   egress.Flow
	client conn
	server conn
	dial   func(context.Context) (conn, error)

	taken atomic.Bool   // the server's side is wanted for requests
	early chan struct{} // closed when nothing is copied from the server any more
	said  int64         // bytes that the server had said by then
	err   error         // why it ended

	unwatch func()
}

// guard owns a connection of the box from here on, and returns when it is over.
//
// The server is dialled at once, to the address that the box chose, and what it
// says goes to the client at once, so that protocols in which the server begins
// work. What the client says is held until it shows what it is and, in TLS and
// HTTP, which host it means; then the policy decides again. dial is called again
// for each further connection that the requests of one client need.
//
// It returns which host the client said, if it said one for all, and what was
// decided in the end. A refusal is recorded by then.
func (g *gate) guard(ctx context.Context, f egress.Flow, client conn, dial func(context.Context) (conn, error)) (host string, v egress.Verdict) {
	defer client.Close()
	server, err := dial(ctx)
	if err != nil {
		client.Reset()
		return "", g.policy().Decide(f)
	}
	defer server.Close()
	w := &guarded{gate: g, flow: f, client: client, server: server, dial: dial, early: make(chan struct{}), unwatch: func() {}}
	defer context.AfterFunc(ctx, w.reset)()
	defer func() { w.unwatch() }()
	go w.listen() // run waits for it
	v = w.run(ctx)
	return w.flow.Host, v
}

func (w *guarded) reset() {
	w.client.Reset()
	w.server.Reset()
}

// listen passes on what the server says.
func (w *guarded) listen() {
	defer close(w.early)
	w.said, w.err = io.Copy(w.client, w.server)
	if !w.taken.Load() && (w.err != nil || w.client.CloseWrite() != nil) {
		w.reset()
	}
}

// takeBack makes listen return, so that the connection can be used for requests.
// It fails if the server has said something, which then is no answer to one, or
// has ended.
func (w *guarded) takeBack() bool {
	w.taken.Store(true)
	w.server.SetReadDeadline(time.Unix(1, 0))
	<-w.early
	w.server.SetReadDeadline(time.Time{})
	return w.said == 0 && errors.Is(w.err, os.ErrDeadlineExceeded)
}

// run is guard when both ends are there.
func (w *guarded) run(ctx context.Context) egress.Verdict {
	head, o := w.hold()
	v := w.judge(&o)
	switch {
	case o.kind == unfinished: // the client is gone, or too slow
		w.reset()
	case v.Action == egress.Deny:
		w.refuse(o, v)
	case o.kind == tlsHello && w.inspects(o):
		if w.takeBack() {
			w.inspect(ctx, head)
		} else {
			w.reset()
		}
	case o.kind == httpLine && v.Action == egress.Sniff:
		if w.takeBack() {
			w.serveHTTP(head)
		} else {
			v = refusal(v, egress.ReasonNoName)
			w.refuse(o, v)
		}
	default:
		if o.kind == httpLine { // nothing else of it is read
			w.noteMisplaced("", nil, func(text string) bool { return bytes.Contains(head, []byte(text)) })
		}
		w.pass(head)
	}
	<-w.early
	if v.Action == egress.Sniff { // what was said was enough
		v.Action = egress.Allow
	}
	return v
}

// judge decides with what the client has said. Of HTTP each request is judged
// later, by its own host.
func (w *guarded) judge(o *opening) egress.Verdict {
	v := w.policy().Decide(w.flow)
	wellKnown := w.flow.Dst.Port() == 80 || w.flow.Dst.Port() == 443
	switch {
	case o.kind == tlsHello && o.name != "":
		return w.named(o.name, v)
	case v.Action != egress.Sniff || o.kind == httpLine:
		return v
	case o.kind == hostile || wellKnown:
		return refusal(v, egress.ReasonNoName)
	}
	return v // what was looked up is all there is to judge by
}

// named decides again with the name of a hello. From now on a change of policy
// judges the flow by it.
func (w *guarded) named(name string, v egress.Verdict) egress.Verdict {
	host, err := egress.Name(name)
	switch {
	case err == nil:
	case v.Action == egress.Sniff:
		return refusal(v, egress.ReasonBadName)
	default:
		return v
	}
	w.flow.Host = host
	w.unwatch = w.watch(w.flow, w.reset)
	return w.policy().Decide(w.flow)
}

// refusal is for what a rule had allowed as far as it went.
func refusal(v egress.Verdict, why egress.Reason) egress.Verdict {
	return egress.Verdict{Action: egress.Deny, Rule: v.Rule, Reason: why}
}

// hold reads what the client says until it is clear what it is.
func (w *guarded) hold() (head []byte, o opening) {
	if p := w.flow.Dst.Port(); p == 80 || p == 443 {
		// In these protocols the client begins.
		w.client.SetReadDeadline(time.Now().Add(headTimeout))
	}
	head = make([]byte, 0, 2<<10) // most hellos and heads
	for o.kind == unfinished {
		if len(head) == cap(head) {
			head = slices.Grow(head, min(cap(head), maxHeld-len(head)))
		}
		n, err := w.client.Read(head[len(head):cap(head)])
		if n > 0 && len(head) == 0 {
			w.client.SetReadDeadline(time.Now().Add(headTimeout))
		}
		head = head[:len(head)+n]
		o = sniff(head)
		if err != nil && o.kind == unfinished {
			return w.ended(head, err)
		}
	}
	w.client.SetReadDeadline(time.Time{})
	return head, o
}

// ended is for a client that said no more. One that only listens, or whose few
// bytes are not TLS, speaks a protocol of its own.
func (w *guarded) ended(head []byte, err error) ([]byte, opening) {
	if err == io.EOF && (len(head) == 0 || !recordType(head[0])) {
		return head, opening{kind: other}
	}
	return nil, opening{}
}

// pass lets the flow through as it is.
func (w *guarded) pass(head []byte) {
	if len(head) > 0 {
		if _, err := w.server.Write(head); err != nil {
			w.reset()
			return
		}
	}
	carry(w.server, w.client)
}

// refuse records why, tells a client of TLS in its own words, and ends the flow.
func (w *guarded) refuse(o opening, v egress.Verdict) {
	w.note(w.event(egress.KindFlow, o.name, v))
	if o.kind == tlsHello {
		w.taken.Store(true)
		w.server.Reset()
		w.client.SetWriteDeadline(time.Now().Add(alertTimeout))
		// A fatal alert, access_denied: "a valid certificate or PSK was
		// received, but when access control was applied, the sender decided
		// not to proceed with negotiation" (RFC 8446).
		_, _ = w.client.Write([]byte{0x15, 3, 3, 0, 2, 2, 49})
		return // guard closes the client's side in order
	}
	w.reset()
}

// event is about this flow.
func (w *guarded) event(k egress.Kind, name string, v egress.Verdict) egress.Event {
	if name == "" && len(w.flow.Names) > 0 {
		name = w.flow.Names[0]
	}
	return egress.Event{
		Kind: k, Direction: egress.Out, Proto: egress.TCP, Name: name,
		Addr: w.flow.Dst.String(), Verdict: v,
	}
}
