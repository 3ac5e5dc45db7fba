package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// away is the boxlite command for a server.
type away struct {
	t   *testing.T
	p   *process
	env []string
}

// remoteCLI starts a server with these images, and returns the command for it
// and the runtime that is served.
func remoteCLI(t *testing.T, refs ...string) (*away, *boxlite.Runtime) {
	rt, home := boxtest.New(t, refs...)
	p := startProcess(t, home)
	env := append(os.Environ(), "BOXLITE_HOME="+t.TempDir(), "BOXLITE_REST_URL="+p.url, "BOXLITE_API_KEY="+apiKey)
	return &away{t, p, env}, rt
}

func (a *away) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(a.t.Context(), boxtest.CLI(a.t), args...)
	cmd.Env = a.env
	return cmd
}

// run runs a command that must succeed.
func (a *away) run(args ...string) string {
	a.t.Helper()
	out, err := a.command(args...).CombinedOutput()
	if err != nil {
		a.t.Fatalf("boxlite %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestRemoteStreams: a hundred megabytes go in and come out as they are, and the
// exit code of a command is that of boxlite.
func TestRemoteStreams(t *testing.T) {
	a, _ := remoteCLI(t, boxtest.Alpine)
	a.run("create", "--name", "job", boxtest.Alpine)
	defer a.run("rm", "-f", "job")
	const size = 100 << 20
	in := bytes.Repeat([]byte("\x00\xffbinary\r\n0123456789abcdef\n"), size/27)
	cmd := a.command("exec", "-i", "job", "sh", "-c", "cat; exit 7")
	cmd.Stdin = bytes.NewReader(in)
	sum := sha256.New()
	cmd.Stdout, cmd.Stderr = sum, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit: got %v, want 7", err)
	}
	if got, want := sum.Sum(nil), sha256.Sum256(in); !bytes.Equal(got, want[:]) {
		t.Error("what came out is not what went in")
	}
}

// TestRemoteCopies: trees and files of the caller's side go in and come back.
func TestRemoteCopies(t *testing.T) {
	a, _ := remoteCLI(t, boxtest.Alpine)
	a.run("create", "--name", "job", boxtest.Alpine)
	defer a.run("rm", "-f", "job")
	src := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(src, "sub", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "sub", "tool"), []byte("#!/bin/sh\necho ran\n"), 0o750); err != nil {
		t.Fatal(err)
	}
	a.run("cp", src, "job:/srv/new")
	if got := a.run("exec", "job", "/srv/new/sub/tool"); got != "ran" {
		t.Errorf("copied program: got %q", got)
	}
	a.run("cp", src, "job:/srv/new") // now it is there, so it goes into it
	a.run("exec", "job", "test", "-d", "/srv/new/data/sub/empty")
	dst := filepath.Join(t.TempDir(), "out")
	a.run("cp", "job:/srv/new", dst)
	st, err := os.Stat(filepath.Join(dst, "data", "sub", "tool"))
	if err != nil || st.Mode().Perm() != 0o750 {
		t.Errorf("copied back: got %v, %v, want mode 0750", st, err)
	}
	out, err := a.command("cp", "job:/no/such/file", dst).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "/no/such/file") {
		t.Errorf("a missing file: got %v: %s, want an error that names it", err, out)
	}
}

// TestRemoteLogsAndServerKilled: a log is followed while it grows. When the
// server is killed under it and under a command, both end with an error that
// names the server, and nothing hangs; the box, which is detached, goes on.
func TestRemoteLogsAndServerKilled(t *testing.T) {
	a, rt := remoteCLI(t, boxtest.Alpine)
	id := a.run("run", "-d", boxtest.Alpine, "sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.05; done")
	b, err := rt.Box(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Remove(context.WithoutCancel(t.Context()), boxlite.RemoveOptions{Force: true})
	logs, ended := a.follow("logs", "-f", id), a.follow("exec", id, "sh", "-c", "echo begun; exec sleep 1000")
	logs.await("line 20")
	ended.await("begun")
	if err := a.p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*followed{"logs": logs, "exec": ended} {
		if err := f.wait(20 * time.Second); err == nil || !strings.Contains(f.stderr.String(), "server http://127.0.0.1") {
			t.Errorf("%s: got %v: %s, want an error that names the server", name, err, f.stderr.String())
		}
	}
	if out, err := a.command("list").CombinedOutput(); err == nil || !strings.Contains(string(out), "the server does not answer") {
		t.Errorf("list without a server: got %v: %s", err, out)
	}
	if info, err := b.Info(t.Context()); err != nil || info.State != boxlite.StateRunning {
		t.Errorf("the detached box: got %s, %v, want running", info.State, err)
	}
}

// TestRemoteDatagrams: a box is reached over UDP through the server, datagram by
// datagram.
func TestRemoteDatagrams(t *testing.T) {
	s := serve(t, restapi.Config{}, boxtest.Python)
	rt, err := boxlite.Connect(t.Context(), boxlite.Remote{URL: s.url, Key: apiKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { rt.Close() })
	b := boxtest.Box(t, rt, boxlite.BoxOptions{Image: boxtest.Python})
	boxtest.Mirror(t, b, 9000)
	c, err := b.Dial("udp", "box:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	for _, size := range []int{1, 3, 9000} {
		say := strings.Repeat("x", size-1) + "y"
		if _, err := c.Write([]byte(say)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, err := c.Read(buf)
		if err != nil || n != size || buf[0] != 'y' {
			t.Errorf("%d bytes: got %d, %v", size, n, err)
		}
	}
	if _, err := b.Dial("tcp", "box:9"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("where nobody listens: got %v, want ECONNREFUSED", err)
	}
}

// TestRemoteClientKilled: what "run" without -d started ends with the client,
// also one that is killed, and is removed.
func TestRemoteClientKilled(t *testing.T) {
	a, rt := remoteCLI(t, boxtest.Alpine)
	f := a.follow("run", boxtest.Alpine, "sh", "-c", "echo begun; exec sleep 1000")
	f.await("begun")
	if infos, err := rt.Boxes(t.Context()); err != nil || len(infos) != 1 {
		t.Fatalf("while it runs: got %d boxes, %v", len(infos), err)
	}
	if err := f.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = f.wait(10 * time.Second)
	boxtest.Eventually(t, 30*time.Second, "the box is gone", func() bool {
		infos, err := rt.Boxes(t.Context())
		return err == nil && len(infos) == 0
	})
}

// followed is a boxlite command whose output is looked at while it runs.
type followed struct {
	t      *testing.T
	cmd    *exec.Cmd
	out    io.Reader
	stderr bytes.Buffer
	done   chan error
}

func (a *away) follow(args ...string) *followed {
	a.t.Helper()
	f := &followed{t: a.t, cmd: a.command(args...), done: make(chan error, 1)}
	r, w, err := os.Pipe()
	if err != nil {
		a.t.Fatal(err)
	}
	f.out, f.cmd.Stdout, f.cmd.Stderr = r, w, &f.stderr
	err = f.cmd.Start()
	w.Close()
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = f.cmd.Process.Kill(); r.Close() })
	return f
}

// await reads until the command has written text, and then goes on reading.
func (f *followed) await(text string) {
	f.t.Helper()
	var seen []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(seen, []byte(text)) {
		n, err := f.out.Read(buf)
		if err != nil {
			f.t.Fatalf("%q does not come: %v, %s%s", text, err, seen, f.stderr.String())
		}
		seen = append(seen, buf[:n]...)
	}
	go func() { // ends with the command
		_, _ = io.Copy(io.Discard, f.out)
		f.done <- f.cmd.Wait()
	}()
}

func (f *followed) wait(limit time.Duration) error {
	f.t.Helper()
	select {
	case err := <-f.done:
		return err
	case <-time.After(limit):
		f.t.Fatalf("%v after it had to end it still runs", limit)
		return nil
	}
}
