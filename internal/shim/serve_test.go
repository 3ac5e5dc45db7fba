package shim

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A caller beyond those that are served at once waits for its turn: to it, a
// box that hangs up is one that does not run.
func TestCallersWaitForTheirTurn(t *testing.T) {
	dir, err := os.MkdirTemp("", "shim") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := &net.UnixAddr{Name: filepath.Join(dir, socketName), Net: "unixpacket"}
	o := &owner{spec: Spec{Dir: dir}, run: Run{State: Running}}
	if o.ln, err = net.ListenUnix("unixpacket", addr); err != nil {
		t.Fatal(err)
	}
	accepting := make(chan struct{})
	go func() { // the cleanup below waits for it
		defer close(accepting)
		o.accept()
	}()
	silent := make([]net.Conn, maxCalls)
	for i := range silent {
		if silent[i], err = net.DialUnix("unixpacket", nil, addr); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, c := range silent {
			c.Close()
		}
		o.ln.Close()
		<-accepting
		o.calls.Wait()
	})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	asked := make(chan error, 1)
	go func() { // received from below
		run, err := NewClient(dir).Status(ctx)
		if err == nil && run.State != Running {
			t.Errorf("state: got %q, want running", run.State)
		}
		asked <- err
	}()
	select {
	case err := <-asked:
		t.Fatalf("status while all others are served: got %v, want to wait", err)
	case <-time.After(100 * time.Millisecond):
	}
	silent[0].Close()
	if err := <-asked; err != nil {
		t.Errorf("status when one has gone: got %v, want nil", err)
	}
}
