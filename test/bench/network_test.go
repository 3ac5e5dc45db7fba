package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// client is the program in the box, and on the host beside it. It prints seconds:
// of the transfer, or of each connect.
const client = `
import socket, sys, time
what, host, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if what == "connect":
    for _ in range(n):
        began = time.perf_counter()
        s = socket.create_connection((host, port))
        print(time.perf_counter() - began)
        s.sendall(b"x"); s.recv(1); s.close()
    sys.exit()
s = socket.create_connection((host, port))
buf = bytearray(1 << 18)
began = time.perf_counter()
if what == "up":
    for _ in range(n // len(buf)):
        s.sendall(buf)
    s.shutdown(socket.SHUT_WR)
    s.recv(1)
else:
    s.sendall(b"x")
    while n > 0:
        n -= s.recv_into(buf)
print(time.perf_counter() - began)
`

// transfer is how many bytes are carried to measure a speed: a second's worth or
// so.
const transfer = 256 << 20

// BenchmarkNetwork is one connection between a program in a box and a server of
// the host, and the same program beside it on the host, and in gVisor on the
// host's own network (hostnet): what a box without a boundary of its own for the
// network would have.
func BenchmarkNetwork(b *testing.B) {
	rt, _ := boxtest.New(b, boxtest.Python)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{
		Image:   boxtest.Python,
		Network: egress.Policy{Allow: []egress.Rule{egress.MustParse("host.boxlite.internal")}},
	})
	boxtest.Sh(b, box, "true")
	inBox := func(ctx context.Context, args ...string) ([]byte, error) {
		return box.Command(ctx, "python3", append([]string{"-c", client, args[0], "192.168.127.254"}, args[1:]...)...).Output()
	}
	onHost := func(ctx context.Context, args ...string) ([]byte, error) {
		return exec.CommandContext(ctx, "python3", append([]string{"-c", client, args[0], "127.0.0.1"}, args[1:]...)...).Output()
	}
	for _, where := range []struct {
		name string
		run  func(context.Context, ...string) ([]byte, error)
	}{{"box", inBox}, {"host", onHost}, {"hostnet", onHostNetwork(b)}} {
		if where.run == nil {
			continue
		}
		speed := func(what string, handle func(net.Conn)) {
			b.Run(what+"/"+where.name, func(b *testing.B) {
				port := serve(b, handle)
				var took time.Duration
				for b.Loop() {
					took += seconds(b, where.run, what, port, transfer)[0]
				}
				b.ReportMetric(float64(b.N)*transfer/1e6/took.Seconds(), "MB/s")
			})
		}
		speed("up", sink)
		speed("down", source)
		b.Run("connect/"+where.name, func(b *testing.B) {
			port := serve(b, func(c net.Conn) { io.Copy(c, c) })
			var all times
			for b.Loop() {
				all = append(all, seconds(b, where.run, "connect", port, 200)...)
			}
			all.report(b)
		})
	}
}

// seconds runs the client and returns the times that it prints.
func seconds(b *testing.B, run func(context.Context, ...string) ([]byte, error), what string, port, n int) (all []time.Duration) {
	b.Helper()
	out, err := run(b.Context(), what, strconv.Itoa(port), strconv.Itoa(n))
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	for line := range strings.FieldsSeq(string(out)) {
		s, err := strconv.ParseFloat(line, 64)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, time.Duration(s*float64(time.Second)))
	}
	return all
}

func sink(c net.Conn) {
	// Not io.Discard itself, into which the kernel could skip the copy.
	io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{c}, make([]byte, 256<<10))
	c.Write([]byte{1})
}

func source(c net.Conn) {
	buf := make([]byte, 256<<10)
	if _, err := c.Read(buf[:1]); err != nil {
		return
	}
	for err := error(nil); err == nil; {
		_, err = c.Write(buf)
	}
}

// serve handles connections to a port of the host's loopback.
func serve(b *testing.B, handle func(net.Conn)) (port int) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() { // ends with l
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with its connection, whose other end is the client's
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// BenchmarkPublished is one connection of the host to a published port of a box.
func BenchmarkPublished(b *testing.B) {
	testenv.NeedGVisor(b)
	const server = `
import socket
l = socket.create_server(("", 8080))
print("up", flush=True)
while True:
    c, _ = l.accept()
    b = bytearray(1 << 18)
    what = c.recv(1)
    try:
        while what == b"d":
            c.sendall(b)
        while what == b"u" and c.recv_into(b):
            pass
        c.sendall(b"x")
    except OSError:
        pass
    c.close()
`
	rt, _ := boxtest.New(b, boxtest.Python)
	box := boxtest.Box(b, rt, boxlite.BoxOptions{
		Image: boxtest.Python, Ports: []boxlite.Port{{BoxPort: 8080}},
	})
	cmd := box.Command(b.Context(), "python3", "-c", server)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 3)); err != nil {
		b.Fatal(err)
	}
	info, err := box.Info(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), info.Ports[0].HostPort).String()
	for _, what := range []string{"up", "down"} {
		b.Run(what, func(b *testing.B) {
			b.SetBytes(transfer)
			for b.Loop() {
				if err := throughPort(addr, what); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// throughPort carries a transfer to the box, or from it.
func throughPort(addr, what string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprint(c, what[:1])
	buf := make([]byte, 256<<10)
	for n := 0; n < transfer && err == nil; n += len(buf) {
		if what == "down" {
			_, err = io.ReadFull(c, buf)
		} else {
			_, err = c.Write(buf)
		}
	}
	if err == nil && what == "up" {
		err = c.(*net.TCPConn).CloseWrite()
		_, _ = io.ReadFull(c, buf[:1]) // until all has arrived
	}
	return err
}
