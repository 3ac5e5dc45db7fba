package restapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestStrangeFrames sends what is no WebSocket, or a strange one, to an
// execution: the server stays, and the execution can be ended.
func TestStrangeFrames(t *testing.T) {
	t.Parallel()
	x := newSite(t, Config{})
	box := x.box()
	masked := func(first byte, text string) []byte {
		return append([]byte{first, 0x80 | byte(len(text)), 0, 0, 0, 0}, text...)
	}
	for _, frames := range [][]byte{
		masked(0x81, `{"type":"stdin_eof"}`),
		masked(0x81, `{"type":"resize","cols":1,"rows":1}`),
		masked(0x82, "input"),
		append(masked(0x01, `{"type":`), masked(0x80, `"signal","sig":15}`)...),
		masked(0x89, "ping"),
		masked(0x88, "\x03\xe8"),
		{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		[]byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		id := x.exec(box, "cat")
		conn, err := net.Dial("tcp", strings.TrimPrefix(x.http.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /v1/boxes/%s/executions/%s/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"+
			"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", box, id)
		r := bufio.NewReader(conn)
		if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, "101") {
			t.Fatalf("upgrade: got %q, %v", line, err)
		}
		if _, err := conn.Write(frames); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite()
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.Copy(io.Discard, r); err != nil && strings.Contains(err.Error(), "timeout") {
			t.Error("30 s after the client's end the socket is open")
		}
		if a := x.do("DELETE", "/v1/boxes/"+box+"/executions/"+id, ""); a.status != 204 {
			t.Errorf("delete: got %v", a)
		}
	}
}
