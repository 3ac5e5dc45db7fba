package agent_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/guest"
)

// box starts the real agent on the host and returns a client of it.
func box(t testing.TB) *guest.Client {
	t.Helper()
	m, err := enginetest.Fake().Start(t.Context(), engine.Spec{
		ID: "test", Dir: t.TempDir(), Disk: t.TempDir(), DiskSize: 1 << 30, CPUs: 1, Memory: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Millisecond)
		defer cancel()
		m.Stop(ctx)
		if err := m.Err(); err != nil {
			t.Errorf("machine ended: got %v, want nil", err)
		}
	})
	return guest.NewClient(m.Dial)
}

// run runs a command to its end.
func run(t testing.TB, c *guest.Client, cmd guest.Command) (stdout, stderr string, x guest.Exit) {
	t.Helper()
	p, err := c.Start(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var out, errs bytes.Buffer
	x, err = p.Copy(&out, &errs)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), x
}

func sh(script string) guest.Command { return guest.Command{Args: []string{"sh", "-c", script}} }

func TestExecTellsOutputAndCode(t *testing.T) {
	out, errs, x := run(t, box(t), sh("echo out; echo err >&2; exit 7"))
	if out != "out\n" || errs != "err\n" || x.Code != 7 || x.Cause != guest.Exited {
		t.Errorf("got %q, %q, %+v, want out, err, code 7", out, errs, x)
	}
}
