package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/httpapi"
)

func TestListenRefusesWide(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0", "example.com:0"} {
		ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Addr: addr, Keys: &httpapi.Keys{}})
		if err == nil {
			ls[0].Close()
			t.Errorf("%s without a key: got a listener, want a refusal", addr)
		} else if !strings.Contains(err.Error(), "API key") {
			t.Errorf("%s: %v does not say what to do", addr, err)
		}
	}
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Addr: "127.0.0.1:0", Keys: &httpapi.Keys{}})
	if err != nil {
		t.Fatal(err)
	}
	ls[0].Close()
}

// TestLongSocket: the reason is said.
func TestLongSocket(t *testing.T) {
	path := "/" + strings.Repeat("x", 107)
	if _, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: path}); err == nil || !strings.Contains(err.Error(), "108 bytes, and the kernel takes 107") {
		t.Errorf("got %v, want what is wrong with the path", err)
	}
}

// serve serves routes on listeners until the test ends.
func serve(t *testing.T, k *httpapi.Keys, ls []net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	h := httpapi.Handler(httpapi.Config{Routes: routes(), Keys: k})
	go func() { done <- httpapi.Serve(ctx, h, ls, time.Minute, slog.New(slog.DiscardHandler), nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestUnixSocket: the user of the server needs no key, others do not get in.
func TestUnixSocket(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.sock")
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode().Perm())
	}
	serve(t, keys(t), ls)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	get := func() (string, error) {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://boxlite/read/x", nil)
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	if got, err := get(); got != "\"local\"\n" {
		t.Errorf("as the user of the server: got %q, %v", got, err)
	}
	if _, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: path}); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second server: got %v, want a refusal", err)
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: to connect as another user")
	}
	// Even if the mode of the socket did not keep them out.
	for _, p := range []string{dir, path, filepath.Dir(dir)} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if got := connectAsNobody(t, path); got != "" {
		t.Errorf("as another user: got %q, want a closed connection", got)
	}
}

// connectAsNobody makes a request on a thread of another user, which ends with
// its goroutine, and returns the answer.
func connectAsNobody(t *testing.T, path string) string {
	t.Helper()
	answer := make(chan string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is not used again
		defer close(answer)
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
			t.Error(e)
			return
		}
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err == nil {
			err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		}
		if err != nil {
			t.Error(err)
			return
		}
		defer syscall.Close(fd)
		_, _ = syscall.Write(fd, []byte("GET /read/x HTTP/1.1\r\nHost: boxlite\r\n\r\n")) // may be closed already
		buf := make([]byte, 100)
		n, _ := syscall.Read(fd, buf)
		answer <- string(buf[:max(n, 0)])
	}()
	return <-answer
}

// TestStaleSocket: what a server that was killed left is no hindrance, and
// nothing else is removed.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	ls, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	ls[0].Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := httpapi.Listen(t.Context(), httpapi.ListenConfig{Socket: path}); err == nil {
		t.Error("a file in the way: got a listener")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Error("the file in the way is gone")
	}
}
