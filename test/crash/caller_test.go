package crash

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// callerArg0 marks a process that does one operation on a home.
const callerArg0 = "boxlite-test-caller"

// boxName is the name of the box in each home.
const boxName = "victim"

// order is what a caller is to do.
type order struct {
	Home   string
	Op     string // key of operations
	Detach bool
	Mirror string // host of a registry
	Health *boxlite.HealthCheck
}

// operation is prepared first and then done, with kills all along.
type operation struct {
	prepare, do func(ctx context.Context, rt *boxlite.Runtime, o order) error
}

var operations = map[string]operation{
	"create": {
		prepare: func(context.Context, *boxlite.Runtime, order) error { return nil },
		do:      create,
	},
	"start": {prepare: create, do: start},
	"again": {
		prepare: func(context.Context, *boxlite.Runtime, order) error { return nil },
		do:      start,
	},
	"stop": {
		prepare: prepareRunning,
		do: withBox(func(ctx context.Context, b *boxlite.Box) error {
			return b.Stop(ctx)
		}),
	},
	"remove": {
		prepare: prepareRunning,
		do: withBox(func(ctx context.Context, b *boxlite.Box) error {
			return b.Remove(ctx, boxlite.RemoveOptions{Force: true})
		}),
	},
	"pull": {
		prepare: func(context.Context, *boxlite.Runtime, order) error { return nil },
		do: func(ctx context.Context, rt *boxlite.Runtime, _ order) error {
			_, err := rt.Images().Pull(ctx, boxtest.Alpine, nil)
			return err
		},
	},
}

func create(ctx context.Context, rt *boxlite.Runtime, o order) error {
	_, err := rt.Create(ctx, boxlite.BoxOptions{Name: boxName, Image: boxtest.Alpine, Detach: o.Detach, HealthCheck: o.Health})
	return err
}

func withBox(f func(context.Context, *boxlite.Box) error) func(context.Context, *boxlite.Runtime, order) error {
	return func(ctx context.Context, rt *boxlite.Runtime, _ order) error {
		b, err := rt.Box(ctx, boxName)
		if err != nil {
			return err
		}
		return f(ctx, b)
	}
}

var start = withBox(func(ctx context.Context, b *boxlite.Box) error { return b.Start(ctx) })

// prepareRunning makes a running box with a file that is safe and one that
// is not.
func prepareRunning(ctx context.Context, rt *boxlite.Runtime, o order) error {
	err := create(ctx, rt, o)
	if err != nil {
		return err
	}
	return withBox(func(ctx context.Context, b *boxlite.Box) error {
		err := b.Command(ctx, "sh", "-c", "echo safe >/safe").Run()
		if err == nil {
			err = b.Sync(ctx)
		}
		if err == nil {
			err = b.Command(ctx, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null; sleep 1000 & sleep 1000 &").Run()
		}
		return err
	})(ctx, rt, o)
}

// callerMain carries out the order in its argument, saying when the operation
// begins and how it ended. It then waits to be killed or for its input to end.
func callerMain() {
	ctx := context.Background()
	say := func(what string, err error) {
		if err != nil {
			what = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		fmt.Println(what)
	}
	var o order
	err := json.Unmarshal([]byte(os.Args[1]), &o)
	if err != nil {
		panic(err)
	}
	c := boxlite.Config{Home: o.Home, Engine: boxtest.Engine}
	if o.Mirror != "" {
		c.Mirrors = []boxlite.Mirror{{Registry: "docker.io", Host: o.Mirror, PlainHTTP: true}}
	}
	rt, err := boxlite.Open(ctx, c)
	if err == nil {
		err = operations[o.Op].prepare(ctx, rt, o)
	}
	say("ready", err)
	if err != nil {
		return
	}
	err = operations[o.Op].do(ctx, rt, o)
	say("done", err)
	_, _ = os.Stdin.Read(make([]byte, 1))
	say("closed", rt.Close())
}

// caller is a running one.
type caller struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

// startCaller returns when the operation begins.
func startCaller(t *testing.T, o order) *caller {
	t.Helper()
	b, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{callerArg0, string(b)}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &caller{cmd, bufio.NewScanner(out)}
	t.Cleanup(c.kill)
	if err := c.expect("ready"); err != nil {
		t.Fatal(err)
	}
	return c
}

// expect reads the caller's next word.
func (c *caller) expect(want string) error {
	if !c.out.Scan() {
		return errors.New("the caller ended without a word")
	}
	if got := c.out.Text(); got != want {
		return errors.New(got)
	}
	return nil
}

// kill ends it without a warning, and reaps it.
func (c *caller) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// duration measures the operation without a kill.
func duration(t *testing.T, o order) time.Duration {
	t.Helper()
	c := startCaller(t, o)
	defer c.kill()
	began := time.Now()
	if err := c.expect("done"); err != nil {
		t.Fatalf("%s, undisturbed: %v", o.Op, err)
	}
	return time.Since(began)
}
