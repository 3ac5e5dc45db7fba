package gvisor_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/gvisor"
	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/guest"
	"github.com/boxlite-go/boxlite/internal/testenv"
)

// testID is unique on this host, so that no two runs share a cgroup.
func testID() string { return "test" + strings.ToLower(rand.Text()[:16]) }

// spec is of a small box with everything in fresh directories.
func spec(tb testing.TB) engine.Spec {
	tb.Helper()
	return engine.Spec{
		ID:       testID(),
		Hostname: "box",
		Dir:      tb.TempDir(),
		Disk:     tb.TempDir(),
		Rootfs:   rootfs(tb),
		DiskSize: 1 << 30,
		Memory:   256 << 20,
		CPUs:     1,
	}
}

// boot starts such a box, where boxes can be started.
func boot(tb testing.TB) (engine.Machine, engine.Spec) {
	tb.Helper()
	testenv.NeedGVisor(tb)
	s := spec(tb)
	return start(tb, s), s
}

func newEngine(tb testing.TB) *gvisor.Engine {
	return gvisor.New(gvisor.Options{CacheDir: tb.TempDir()})
}

// start boots a machine that ends with the test.
func start(tb testing.TB, s engine.Spec) engine.Machine {
	tb.Helper()
	m, err := newEngine(tb).Start(tb.Context(), s)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = m.Stop(tb.Context()) }) // its ctx has ended: by force
	return m
}

// sh runs a script in the box and returns what it wrote; it must succeed.
func sh(tb testing.TB, m engine.Machine, script string) string {
	tb.Helper()
	// One pipe for both outputs: between two there is no order.
	out, code := run(tb, m, "sh", "-c", "exec 2>&1\n"+script)
	if code != 0 {
		tb.Fatalf("sh -c %q: code %d\n%s", script, code, out)
	}
	return out
}

// run runs a command in the box.
func run(tb testing.TB, m engine.Machine, args ...string) (output string, code int) {
	tb.Helper()
	p, err := guest.NewClient(m.Dial).Start(tb.Context(), guest.Command{Args: args})
	if err != nil {
		tb.Fatalf("%q: %v", args, err)
	}
	defer p.Close()
	var out bytes.Buffer
	exit, err := p.Copy(&out, &out)
	if err != nil {
		tb.Fatalf("%q: %v\n%s", args, err, out.String())
	}
	return out.String(), exit.Code
}

func TestStartRunsCommands(t *testing.T) {
	m := start(t, spec(t))
	if got, want := sh(t, m, "echo hi"), "hi\n"; got != want {
		t.Errorf("echo: got %q, want %q", got, want)
	}
}
