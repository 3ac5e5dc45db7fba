package boxlite_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite"
)

// TestAttachFromOffset: a caller who has the beginning gets the rest, and one
// who asks for what is no longer kept is told what is missing.
func TestAttachFromOffset(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	// 3 MB, of which the box keeps the last 1 MiB, then the command waits.
	cmd := b.Command(t.Context(), "sh", "-c", `i=0; while [ $i -lt 30000 ]; do
		echo 0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789; i=$((i+1)); done; echo done >&2; read x`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	const total = 30000 * 101
	said := make(chan error, 1)
	go func() { // which of the two comes first is not said
		_, err := io.CopyN(io.Discard, stderr, 5)
		said <- err
	}()
	if _, err := io.CopyN(io.Discard, stdout, total); err != nil {
		t.Fatal(err)
	}
	if err := <-said; err != nil {
		t.Fatal(err)
	}
	type gap struct{ from, to int64 }
	for _, tt := range []struct {
		name string
		from int64
		want int64 // bytes; -1: what is kept after a gap
	}{
		{"the last bytes", total - 10, 10},
		{"at the end", total, 0},
		{"after the end", total + 100, 0},
		{"no longer kept", 7, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			var gaps []gap
			a := b.Attach(t.Context(), cmd.ID(), boxlite.AttachOptions{
				StdoutFrom: tt.from, StderrFrom: 5,
				Gap: func(_ bool, from, to int64) { gaps = append(gaps, gap{from, to}) },
			})
			r, w := io.Pipe()
			a.Stdout = w
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			want := tt.want
			if want < 0 {
				want = 1 << 20
			}
			_, err := io.CopyN(&out, r, want)
			r.Close()
			if e := a.Detach(); err != nil || e != nil {
				t.Fatal(err, e)
			}
			if tt.want < 0 {
				if len(gaps) != 1 || gaps[0] != (gap{tt.from, total - want}) {
					t.Errorf("gaps: got %v, want one from %d to %d", gaps, tt.from, total-want)
				}
			} else if len(gaps) > 0 {
				t.Errorf("gaps: got %v, want none", gaps)
			}
			if line := strings.Repeat("0123456789", 10) + "\n"; want > 0 && !strings.HasSuffix(out.String(), line[101-min(want, 101):]) {
				t.Errorf("replay ends with %q", out.String()[max(0, out.Len()-20):])
			}
		})
	}
	stdin.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("read without input: got nil, want an error")
	}
}

// TestControlByID: who has only the id can signal, look and kill.
func TestControlByID(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	cmd := b.Command(t.Context(), "sh", "-c", `trap 'exit 7' USR1; echo ready; while :; do sleep 0.01; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if x, err := b.Execution(t.Context(), cmd.ID()); err != nil || x.ExitCode != nil || x.Cause != "" {
		t.Errorf("running: got %+v, %v", x, err)
	}
	byID := b.Attach(t.Context(), cmd.ID())
	if err := byID.Resize(24, 80); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("resize without a terminal: got %v, want ErrInvalid", err)
	}
	if err := byID.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	exit, ok := errors.AsType[*boxlite.ExitError](cmd.Wait())
	if !ok || exit.Code != 7 {
		t.Fatalf("got %v, want exit 7", exit)
	}
	if x, err := b.Execution(t.Context(), cmd.ID()); err != nil || x.ExitCode == nil || *x.ExitCode != 7 || x.Cause != boxlite.CauseExited || x.Ended.IsZero() {
		t.Errorf("ended: got %+v, %v", x, err)
	}
	if _, err := b.Execution(t.Context(), "nosuch"); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("unknown id: got %v, want ErrNotFound", err)
	}
	if err := b.Attach(t.Context(), "nosuch").Signal(syscall.SIGTERM); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("signal to an unknown id: got %v, want ErrNotFound", err)
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Labels: map[string]string{"team": "blue"}})
	again, err := rt.Box(t.Context(), b.ID())
	if err != nil {
		t.Fatal(err)
	}
	info, err := again.Info(t.Context())
	if err != nil || info.Options.Labels["team"] != "blue" {
		t.Errorf("labels: got %v, %v, want team=blue", info.Options.Labels, err)
	}
	for _, bad := range []map[string]string{{"": "x"}, {"k": strings.Repeat("v", 17<<10)}} {
		if _, err := rt.Create(t.Context(), boxlite.BoxOptions{Labels: bad}); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("labels of %d: got %v, want ErrInvalid", len(bad), err)
		}
	}
}

// TestExecutionsOfABoxThatDoesNotRun: that it does not is what is said.
func TestExecutionsOfABoxThatDoesNotRun(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{})
	_, err := b.Execution(t.Context(), "x")
	for what, err := range map[string]error{"Execution": err, "Attach": b.Attach(t.Context(), "x").Start(), "Kill": b.Attach(t.Context(), "x").Kill()} {
		if !errors.Is(err, boxlite.ErrState) {
			t.Errorf("%s: got %v, want ErrState", what, err)
		}
	}
}
