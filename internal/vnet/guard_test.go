package vnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/boxlite-go/boxlite/egress"
)

// TestServerBegins promises that a protocol in which the server speaks first
// works through guard, with half-closes.
func TestServerBegins(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.port = 25
	g.listen(func(c *net.TCPConn) {
		fmt.Fprint(c, "220 ready\r\n")
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "got %q\r\n", b)
	})
	c, over := g.connect()
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "220 ready\r\n" {
		t.Fatalf("banner: got %q, %v", line, err)
	}
	fmt.Fprint(c, "EHLO box\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || string(rest) != "got \"EHLO box\\r\\n\"\r\n" {
		t.Errorf("answer: got %q, %v", rest, err)
	}
	<-over
	if got := g.refusals(); len(got) > 0 {
		t.Errorf("refusals: got %v, want none", got)
	}
}

// TestClientThatOnlyListens promises that a client may end its side at once.
func TestClientThatOnlyListens(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.port = 13
	g.listen(func(c *net.TCPConn) {
		b, _ := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes, and the time", len(b))
	})
	c, _ := g.connect()
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "0 bytes, and the time" {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestNames promises that TLS passes untouched when it says the name that was
// looked up, and that whatever else is said is refused at once.
func TestNames(t *testing.T) {
	const other = "other.test"
	for _, tt := range []struct {
		name   string
		policy egress.Policy
		port   uint16
		names  []string
		sni    string
		plain  string // instead of TLS
		reason egress.Reason
	}{
		{name: "the name", sni: "allowed.test"},
		{name: "the name in another case", sni: "ALLOWED.Test"},
		{name: "another name", sni: other, reason: egress.ReasonName},
		{name: "a name that begins like it", sni: "allowed.test.evil.test", reason: egress.ReasonName},
		{name: "a second allowed name that was not looked up", sni: "second.test", reason: egress.ReasonName},
		{name: "a second name that was looked up and is not allowed", names: []string{"allowed.test", other}, sni: other, reason: egress.ReasonNotAllowed},
		{name: "no name", reason: egress.ReasonNoName},
		{name: "no name elsewhere", port: 8883},
		{name: "another name elsewhere", port: 8883, sni: other, reason: egress.ReasonName},
		{name: "an address for a name", sni: "203.0.113.8", reason: egress.ReasonNoName}, // package tls does not send it
		{name: "another protocol", plain: "\x00\x01\x02 is this\r\n", reason: egress.ReasonNoName},
		{name: "another protocol elsewhere", port: 5432, plain: "\x00\x01\x02 is this\r\n"},
		{name: "records that are no hello", port: 5432, plain: "\x16\x03\x01\x00\x04\x02\x00\x00\x00", reason: egress.ReasonNoName},
		{
			name: "denied by name", sni: other, reason: egress.ReasonRule,
			policy: egress.Policy{Deny: []egress.Rule{egress.MustParse(other)}},
		},
		{
			name: "another denied by name", sni: "third.test",
			policy: egress.Policy{Deny: []egress.Rule{egress.MustParse(other)}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.policy
			if p.Deny == nil {
				p = policy(egress.AllowList, "allowed.test", "second.test")
			}
			g := newGateTest(t, p)
			if tt.port != 0 {
				g.port = tt.port
			}
			if tt.names != nil {
				g.names = tt.names
			}
			var err error
			if tt.plain != "" {
				g.listen(func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
				c, _ := g.connect()
				fmt.Fprint(c, tt.plain)
				if _, err = io.ReadFull(c, make([]byte, len(tt.plain))); err != nil && !hasReset(err) {
					t.Errorf("refusal: got %v, want a reset", err)
				}
			} else {
				err = g.handshake(tt.sni)
			}
			if tt.reason == "" {
				if got := g.refusals(); err != nil || len(got) > 0 {
					t.Errorf("got %v and refusals %v, want none", err, got)
				}
				return
			}
			if err == nil {
				t.Error("passed, want a refusal")
			}
			if tt.plain == "" && !strings.Contains(fmt.Sprint(err), "access denied") {
				t.Errorf("client of TLS: got %v, want the alert access denied", err)
			}
			g.wantRefusal(egress.KindFlow, tt.reason)
		})
	}
}

// handshake makes TLS with a server of package httptest through guard.
func (g *gateTest) handshake(sni string) error {
	s := httptest.NewUnstartedServer(http.HandlerFunc(echo))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	g.t.Cleanup(s.Close)
	g.server = s.Listener.Addr().String()
	c, _ := g.connect()
	t := tls.Client(c, &tls.Config{ServerName: sni, InsecureSkipVerify: true})
	if err := t.HandshakeContext(g.t.Context()); err != nil {
		return err
	}
	if !bytes.Equal(t.ConnectionState().PeerCertificates[0].Raw, s.Certificate().Raw) {
		return errors.New("the certificate is not that of the server")
	}
	return t.Close()
}

// TestHelloInPieces promises that neither segments nor records hide a name.
func TestHelloInPieces(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.listen(func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	c, _ := g.connect()
	whole := inRecords(hello(t, "evil.test"), 7)
	for _, b := range whole {
		if _, err := c.Write([]byte{b}); err != nil {
			break
		}
	}
	b, _ := io.ReadAll(c)
	if len(b) != 7 || b[0] != 0x15 {
		t.Errorf("got %x, want an alert and nothing of an echo", b)
	}
	g.wantRefusal(egress.KindFlow, egress.ReasonName)

	c, _ = g.connect()
	whole = inRecords(hello(t, "allowed.test"), 7)
	for _, b := range whole {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	got := make([]byte, len(whole))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, whole) {
		t.Errorf("the hello did not arrive as it was sent: %v", err)
	}
}

// inRecords puts the message of one record into records of n bytes.
func inRecords(record []byte, n int) (records []byte) {
	message := record[5:]
	for len(message) > 0 {
		part := message[:min(n, len(message))]
		message = message[len(part):]
		records = append(append(records, 0x16, 3, 1, 0, byte(len(part))), part...)
	}
	return records
}

// TestPolicyChangeEndsFlow promises that a connection whose name is no longer
// allowed ends when the policy changes.
func TestPolicyChangeEndsFlow(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test", "second.test"))
	g.names = []string{"allowed.test", "second.test"}
	g.listen(func(c *net.TCPConn) { _, _ = io.Copy(c, c) })
	b := hello(t, "second.test")
	c, over := g.connect()
	_, _ = c.Write(b)
	if _, err := io.ReadFull(c, make([]byte, len(b))); err != nil {
		t.Fatal(err)
	}
	same := policy(egress.AllowList, "second.test")
	g.policy.Store(&same)
	g.recheck()
	fmt.Fprint(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("a policy that still allows the flow: %v", err)
	}
	less := policy(egress.AllowList, "allowed.test")
	g.policy.Store(&less)
	g.recheck()
	if _, err := c.Read(make([]byte, 1)); !hasReset(err) {
		t.Errorf("a policy that does not: got %v, want a reset", err)
	}
	<-over
}

// TestServerIsGone promises that a client of a server that cannot be reached
// sees a reset.
func TestServerIsGone(t *testing.T) {
	g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
	g.listen(func(*net.TCPConn) {})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.server = l.Addr().String()
	l.Close()
	c, over := g.connect()
	<-over
	if _, err := c.Read(make([]byte, 1)); !hasReset(err) {
		t.Errorf("got %v, want a reset", err)
	}
}

// pipe is a conn in memory, for tests in which time passes.
type pipe struct{ net.Conn }

func (p pipe) CloseWrite() error { return p.Close() }
func (p pipe) Reset()            { p.Close() }

// turns is a pipe whose writers wait for each other at a channel. At the lock of
// net.Pipe synctest would not see that they wait.
type turns struct {
	pipe
	turn chan struct{}
}

func (p turns) Write(b []byte) (int, error) {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	return p.pipe.Write(b)
}

// TestSilence promises that a client which does not say what it wants is given up
// where it has to begin, and that others may be silent for as long as they like.
func TestSilence(t *testing.T) {
	for _, tt := range []struct {
		name  string
		port  uint16
		said  string
		after time.Duration // until the flow ends; 0: it does not
	}{
		{"nothing to a web server", 443, "", headTimeout},
		{"half a hello", 443, "\x16\x03", headTimeout},
		{"half a hello elsewhere", 8883, "\x16\x03", headTimeout},
		{"half a line elsewhere", 8080, "GET /", headTimeout},
		{"nothing elsewhere", 22, "", 0},
		{"enough elsewhere", 22, "SSH-2.0-x\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
				box, client := net.Pipe()
				server, far := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, far) }()
				f := egress.Flow{Proto: egress.TCP, Dst: netip.AddrPortFrom(public, tt.port), Names: g.names}
				ctx, cancel := context.WithCancel(t.Context())
				began, over := time.Now(), make(chan struct{})
				go func() {
					defer close(over)
					g.guard(ctx, f, pipe{client}, func(context.Context) (conn, error) { return pipe{server}, nil })
				}()
				fmt.Fprint(box, tt.said)
				if tt.after == 0 {
					time.Sleep(24 * time.Hour)
					select {
					case <-over:
						t.Error("the flow was ended")
					default:
					}
					cancel()
				}
				<-over
				if got := time.Since(began); tt.after > 0 && got != tt.after {
					t.Errorf("ended after %s, want %s", got, tt.after)
				}
				cancel()
				far.Close()
				box.Close()
			})
		})
	}
}

// TestRefusedClientThatDoesNotRead promises that a refusal is not put off by who does
// not take what the server has said before, nor why it is refused.
func TestRefusedClientThatDoesNotRead(t *testing.T) {
	said := hello(t, "other.test")
	synctest.Test(t, func(t *testing.T) {
		g := newGateTest(t, policy(egress.AllowList, "allowed.test"))
		box, client := net.Pipe()
		server, far := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			_, err := far.Write(make([]byte, chunk+1))
			ended <- err
		}()
		f := egress.Flow{Proto: egress.TCP, Dst: netip.AddrPortFrom(public, 8883), Names: g.names}
		over := make(chan struct{})
		go func() {
			defer close(over)
			g.guard(t.Context(), f, turns{pipe{client}, make(chan struct{}, 1)}, func(context.Context) (conn, error) { return pipe{server}, nil })
		}()
		if _, err := box.Write(said); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		g.wantRefusal(egress.KindFlow, egress.ReasonName)
		if err := <-ended; err == nil {
			t.Error("the server was heard to its end")
		}
		<-over
		far.Close()
		box.Close()
	})
}
