package boxlite_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// engineVar may be "gvisor", to run the same tests on real boxes.
const engineVar = "BOXLITE_TEST_ENGINE"

func testEngine() boxlite.Engine {
	if os.Getenv(engineVar) == gvisor.Name {
		return gvisor.New(gvisor.Options{})
	}
	return enginetest.Fake()
}

// TestMain makes the test binary the helper of its own boxes, and fails when
// the tests leave processes behind.
func TestMain(m *testing.M) {
	boxlite.RunHelper(enginetest.Fake(), gvisor.New(gvisor.Options{}))
	if err := enginetest.Prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if left := childrenLeft(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "processes left: %v\n", left)
		code = 1
	}
	os.Exit(code)
}

// childrenLeft lists our children that are still there after a while.
func childrenLeft() (left []string) {
	for range 100 {
		left = nil
		tasks, _ := filepath.Glob("/proc/self/task/*/children")
		for _, t := range tasks {
			if b, err := os.ReadFile(t); err == nil && len(bytes.TrimSpace(b)) > 0 {
				left = append(left, string(b))
			}
		}
		if left == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return left
}

// image is what the boxes of the tests are made from. On the fake engine
// commands are the host's, so it may be nearly empty.
const image = "test:latest"

// open opens a runtime of that home.
func open(t *testing.T, home string) *boxlite.Runtime {
	t.Helper()
	return openWith(t, boxlite.Config{Home: home})
}

func openWith(t *testing.T, c boxlite.Config) *boxlite.Runtime {
	t.Helper()
	c.Engine = testEngine()
	rt, err := boxlite.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	if onServer() {
		return connect(t, rt)
	}
	return rt
}

func newRuntime(t *testing.T) *boxlite.Runtime {
	t.Helper()
	return newRuntimeWith(t, boxlite.Config{})
}

func newRuntimeWith(t *testing.T, c boxlite.Config) *boxlite.Runtime {
	t.Helper()
	c.Home = t.TempDir()
	rt := openWith(t, c)
	config := boxlite.ImageConfig{Env: []string{"FROM=image", "PATH=" + os.Getenv("PATH")}, Cmd: []string{"sh"}}
	if os.Getenv(engineVar) == gvisor.Name {
		testenv.NeedGVisor(t)
		config.Env[1] = "PATH=/bin"
	}
	if _, err := rt.Images().Import(t.Context(), rootfs(t), image, config); err != nil {
		t.Fatal(err)
	}
	return rt
}

// rootfs is the test image: busybox, if this machine has it.
func rootfs(t *testing.T) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	put := func(h tar.Header, content []byte) {
		h.Size = int64(len(content))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin/", "dev/", "etc/", "proc/", "root/", "sys/", "tmp/"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
	}
	if busybox, err := os.ReadFile("/bin/busybox"); err == nil {
		put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, busybox)
	}
	for _, a := range strings.Fields("basename cat echo seq sh sleep stty tee true tty") {
		put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// newBox makes a box that is removed at the end of the test.
func newBox(t *testing.T, rt *boxlite.Runtime, o boxlite.BoxOptions) *boxlite.Box {
	t.Helper()
	if o.Image == "" {
		o.Image = image
	}
	b, err := rt.Create(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home(t, rt), "boxes", b.ID())
	t.Cleanup(func() {
		if said, _ := os.ReadFile(filepath.Join(dir, "logs", "shim.log")); t.Failed() && len(said) > 0 {
			t.Logf("shim of %s said:\n%s", b.ID(), said)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := b.Remove(ctx, boxlite.RemoveOptions{Force: true}); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	return b
}

// sh runs a script in the box and returns its output.
func sh(t *testing.T, b *boxlite.Box, script string) string {
	t.Helper()
	out, err := b.Command(t.Context(), "sh", "-c", script).Output()
	if err != nil {
		t.Fatalf("sh -c %q: %v", script, err)
	}
	return string(out)
}

func state(t *testing.T, b *boxlite.Box) boxlite.State {
	t.Helper()
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State
}

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}
