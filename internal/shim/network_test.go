package shim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/egress"
)

// TestSecretPrintsNoValue promises that a spec in a log is harmless.
func TestSecretPrintsNoValue(t *testing.T) {
	s := Secret{Name: "KEY", Value: "the-value", Hosts: []string{"api.example.com"}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", slog.Any("secret", s))
	spec := Spec{Network: &Network{Secrets: []Secret{s}}}
	for _, text := range []string{log.String(), fmt.Sprintf("%v %+v %#v %s", s, s, s, s), fmt.Sprintf("%v %+v", *spec.Network, *spec.Network)} {
		if strings.Contains(text, s.Value) || !strings.Contains(text, s.Name) {
			t.Errorf("got %q, want the name and not the value", text)
		}
	}
}

// TestLargestPolicyFits promises that any policy that is valid can be set.
func TestLargestPolicyFits(t *testing.T) {
	name := strings.Repeat(strings.Repeat("x", 60)+".", 4) + "example"
	var p egress.Policy
	for i := range 1024 {
		p.Allow = append(p.Allow, egress.MustParse(fmt.Sprintf("tcp:%s:%s%d", name, strings.Repeat("10000-20000,", 15), 10000+i)))
	}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > maxPolicy {
		t.Errorf("policy of 1024 of the longest rules: got %d bytes, want at most %d", len(b), maxPolicy)
	}
}

// TestCarryPassesOnTheEndOfADirection has one side end its sending and still
// receive.
func TestCarryPassesOnTheEndOfADirection(t *testing.T) {
	inner, far := streams(t)
	outer, caller := streams(t)
	done := make(chan struct{})
	go func() { defer close(done); carry(t.Context(), inner, outer, egress.TCP) }()
	if _, err := caller.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := caller.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); string(got) != "question" || err != nil {
		t.Errorf("in the box: got %q, %v, want %q and the end", got, err, "question")
	}
	if _, err := far.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	far.Close()
	if got, err := io.ReadAll(caller); string(got) != "answer" || err != nil {
		t.Errorf("at the caller: got %q, %v, want %q and the end", got, err, "answer")
	}
	<-done
}

// TestCarryEndsWithACaller has a caller of UDP go away.
func TestCarryEndsWithACaller(t *testing.T) {
	inner, far := streams(t)
	outer, caller := streams(t)
	done := make(chan struct{})
	go func() { defer close(done); carry(t.Context(), inner, outer, egress.UDP) }()
	caller.Close()
	<-done
	if got, err := io.ReadAll(far); len(got) > 0 || err != nil {
		t.Errorf("in the box: got %q, %v, want the end", got, err)
	}
}

// TestCarryEndsWithACallerThatIsGone has one end its sending and then go away,
// while nothing comes from the box.
func TestCarryEndsWithACallerThatIsGone(t *testing.T) {
	inner, far := streams(t)
	outer, caller := streams(t)
	done := make(chan struct{})
	go func() { defer close(done); carry(t.Context(), inner, outer, egress.TCP) }()
	if err := caller.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); len(got) > 0 || err != nil {
		t.Errorf("in the box: got %q, %v, want the end", got, err)
	}
	caller.Close()
	<-done
	if _, err := far.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("write in the box: got %v, want %v", err, unix.EPIPE)
	}
}

// TestCarryEndsWithTheNetwork has the box end its sending, and a caller that
// neither sends nor closes: the end of a box does not wait for it.
func TestCarryEndsWithTheNetwork(t *testing.T) {
	inner, far := streams(t)
	outer, caller := streams(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); carry(ctx, inner, outer, egress.TCP) }()
	far.CloseWrite()
	if got, err := io.ReadAll(caller); len(got) > 0 || err != nil {
		t.Errorf("at the caller: got %q, %v, want the end", got, err)
	}
	cancel()
	<-done
	if _, err := caller.Write([]byte("x")); !errors.Is(err, unix.EPIPE) {
		t.Errorf("write of the caller: got %v, want %v", err, unix.EPIPE)
	}
}

// streams returns two connected sockets.
func streams(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	a, f, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	b = c.(*net.UnixConn)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
