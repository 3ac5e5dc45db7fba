// Package boxtest is what the tests on real boxes share: runtimes on gVisor
// with images in them, and a look at everything that boxes could leave on the
// host.
package boxtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// Names under which the images of "make images" can be used.
const (
	Alpine = "alpine:latest"
	Python = "python:slim"
	Node   = "node:alpine"
	Dev    = "boxlite-dev:latest"
)

// files are the archives of the images.
var files = map[string]string{
	Alpine: "alpine.tar",
	Python: "python-slim.tar",
	Node:   "node-alpine.tar",
	Dev:    "dev.tar",
}

// Engine is the engine of the tests. All of a process share it, so that it
// makes the agent's image once.
var Engine = gvisor.New(gvisor.Options{})

// Main is the TestMain of packages with real boxes: it makes the test binary
// the helper of its own boxes, and fails when the tests leave anything behind.
func Main(m *testing.M) {
	boxlite.RunHelper(Engine)
	before := Leftovers()
	code := m.Run()
	if diff := before.Await(10 * time.Second); code == 0 && diff != "" {
		fmt.Fprintf(os.Stderr, "left behind by the tests:\n%s", diff)
		code = 1
	}
	os.Exit(code)
}

// Archive returns the path of an image archive, or ends the test.
func Archive(tb testing.TB, ref string) string {
	tb.Helper()
	dir := os.Getenv("BOXLITE_TEST_IMAGES")
	if dir == "" {
		dir = filepath.Join(Root(), "build", "images")
	}
	path := filepath.Join(dir, files[ref])
	if _, err := os.Stat(path); err != nil {
		testenv.Missing(tb, "images", err.Error()+`; run "make images"`)
	}
	return path
}

// CLI returns the path of the command line program, or ends the test.
func CLI(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(Root(), "bin", "boxlite")
	if _, err := os.Stat(path); err != nil {
		testenv.Missing(tb, "cli", err.Error()+`; run "make build"`)
	}
	return path
}

// Root is the directory of the module, two above this one.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	if !filepath.IsAbs(file) { // built with -trimpath: tests run in their directory
		file, _ = filepath.Abs(filepath.Join("..", "boxtest", "boxtest.go"))
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// New opens a runtime in a new home with the images of these names.
func New(tb testing.TB, refs ...string) (rt *boxlite.Runtime, home string) {
	tb.Helper()
	testenv.NeedGVisor(tb)
	home = tb.TempDir()
	rt = Open(tb, home)
	for _, ref := range refs {
		if _, err := rt.Images().Load(tb.Context(), Archive(tb, ref)); err != nil {
			tb.Fatal(err)
		}
	}
	return rt, home
}

// Open opens the runtime in a home until the test ends.
func Open(tb testing.TB, home string) *boxlite.Runtime {
	tb.Helper()
	rt, err := boxlite.Open(tb.Context(), boxlite.Config{Home: home, Engine: Engine})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := rt.Close(); err != nil {
			tb.Errorf("close %s: %v", home, err)
		}
	})
	return rt
}

// Box makes a box that is removed when the test ends.
func Box(tb testing.TB, rt *boxlite.Runtime, o boxlite.BoxOptions) *boxlite.Box {
	tb.Helper()
	b, err := rt.Create(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Remove(ctx, boxlite.RemoveOptions{Force: true}); err != nil {
			tb.Errorf("remove: %v", err)
		}
	})
	return b
}

// Sh runs a script in the box, which must succeed, and returns its output.
func Sh(tb testing.TB, b *boxlite.Box, script string) string {
	tb.Helper()
	out, err := b.Command(tb.Context(), "sh", "-c", script).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// Mirror has a box with Python send back what it gets at a UDP port, each
// datagram from its end to its beginning, until the test ends.
func Mirror(tb testing.TB, b *boxlite.Box, port int) {
	tb.Helper()
	ctx := context.WithoutCancel(tb.Context()) // it ends before what is cleaned up
	c := b.Command(ctx, "python", "-c", fmt.Sprintf(`
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", %d)); print("ready", flush=True)
while True: d, a = s.recvfrom(65535); s.sendto(d[::-1], a)`, port))
	out, err := c.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Kill(); _ = c.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		tb.Fatal(err)
	}
}

// Eventually waits for what other processes bring about.
func Eventually(tb testing.TB, limit time.Duration, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("after %v still not: %s", limit, what)
		}
	}
}

// Machine returns the host process of the boundary of a running box: a child of
// the process that owns it.
func Machine(tb testing.TB, b *boxlite.Box) int {
	tb.Helper()
	return helper(tb, b, "boxlite-sentry")
}

// Gofer returns the host process that serves the volumes of a running box.
func Gofer(tb testing.TB, b *boxlite.Box) int {
	tb.Helper()
	return helper(tb, b, "boxlite-gofer")
}

func helper(tb testing.TB, b *boxlite.Box, name string) int {
	tb.Helper()
	info, err := b.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, pid := range Children(info.PID) {
		if strings.HasPrefix(CommandLine(pid), name+" ") {
			return pid
		}
	}
	tb.Fatalf("box %s in state %s: process %d has no %s", b.ID(), info.State, info.PID, name)
	return 0
}

// Copy writes a file from r.
func Copy(tb testing.TB, path string, r io.Reader, mode os.FileMode) {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, r); err != nil {
		tb.Fatal(err)
	}
}

// Long tells whether tests may take longer than a developer waits.
func Long() bool { return os.Getenv("BOXLITE_TEST_LONG") != "" }

// sorted returns the lines of a set in order.
func sorted(set map[string]bool) []string {
	lines := make([]string, 0, len(set))
	for l := range set {
		lines = append(lines, l)
	}
	slices.Sort(lines)
	return lines
}

// owned tells whether a name in a temporary directory is ours.
func owned(name string) bool { return strings.HasPrefix(name, "boxlite") }
