package restapi

import (
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// ownNet gives the thread of this test a network of its own. It ends with the
// test: nobody unlocks it, so nobody else gets it.
func ownNet(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("needs a network namespace of its own: %v", err)
	}
	loopback(t, true)
}

// loopback sets the loopback interface of this thread's network up or down.
func loopback(t *testing.T, up bool) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	if up {
		req.SetUint16(unix.IFF_UP)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

// TestDeadLine: a connection over which nothing gets through ends, although
// nobody has said so and the sender keeps sending.
func TestDeadLine(t *testing.T) {
	t.Parallel()
	ownNet(t)
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Addr: "127.0.0.1:0", Keys: &httpapi.Keys{}})
	if err != nil {
		t.Fatal(err)
	}
	upgraded := make(chan net.Conn, 1)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to := &hijacked{ResponseWriter: w}
		if _, err := websocket.Accept(to, r, nil); err != nil {
			t.Error(err)
		}
		upgraded <- to.conn
	})}
	defer srv.Close()
	go srv.Serve(ls[0]) // until Close
	client, err := net.Dial("tcp", ls[0].Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := io.WriteString(client, handshake); err != nil {
		t.Fatal(err)
	}
	server := <-upgraded
	defer server.Close()
	endIfDead(server, time.Second)
	loopback(t, false)
	if _, err := io.WriteString(server, "output"); err != nil {
		t.Fatal(err)
	}
	_ = server.SetReadDeadline(time.Now().Add(time.Minute)) // the kernel gives up after fifteen
	if _, err := server.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("got %v, want that the connection timed out", err)
	}
}
