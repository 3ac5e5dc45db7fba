package boxlite_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

func TestLogsTail(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{Cmd: []string{"sh", "-c", "seq 1 1000"}})
	if err := b.Main(t.Context()).Run(); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int]string{1: "1000\n", 3: "998\n999\n1000\n"} {
		r, err := b.Logs(t.Context(), boxlite.LogOptions{Tail: n})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != want {
			t.Errorf("tail %d: got %q, %v, want %q", n, got, err, want)
		}
	}
}

// A log is moved aside wherever it is full, in the middle of a line too.
func TestLogsTailAcrossFiles(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Cmd: []string{"true"}})
	path := filepath.Join(home(t, rt), "boxes", b.ID(), "logs", "main.log")
	for _, tt := range []struct {
		old, now string
		tail     int
		want     string
	}{
		{"a\nb\nc", "d\ne\n", 1, "e\n"},
		{"a\nb\nc", "d\ne\n", 2, "cd\ne\n"},
		{"a\nb\nc", "d\ne\n", 3, "b\ncd\ne\n"},
		{"a\nb\nc", "d\ne\n", 9, "a\nb\ncd\ne\n"},
		{"a\nb\nc", "d", 1, "cd"},
		{"a\nb\n", "d\ne\n", 2, "d\ne\n"},
		{"a\nb\n", "d\ne\n", 3, "b\nd\ne\n"},
		{"a\nb\nc", "", 1, "c"},
		{"", "d\ne\n", 1, "e\n"},
	} {
		for name, content := range map[string]string{path + ".1": tt.old, path: tt.now} {
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := b.Logs(t.Context(), boxlite.LogOptions{Tail: tt.tail})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(got) != tt.want {
			t.Errorf("tail %d of %q and %q: got %q, %v, want %q", tt.tail, tt.old, tt.now, got, err, tt.want)
		}
	}
}

// Whoever follows a log may close it at any time, also while it is moved aside.
func TestClosedLogEndsItsReader(t *testing.T) {
	t.Parallel()
	b := newBox(t, newRuntime(t), boxlite.BoxOptions{Detach: true, Cmd: []string{"sh", "-c", "seq 1 1900000; sleep 1000"}})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := b.Logs(t.Context(), boxlite.LogOptions{Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	past := make(chan struct{})
	go func() { // the test waits for it
		_, err := io.CopyN(io.Discard, r, 11<<20) // more than one file holds
		close(past)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		ended <- err
	}()
	<-past
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("read of a closed log: got nil, want an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the reader of a closed log goes on")
	}
}

// TestFollowedLogIsWhole: what was written to a log just before it was moved aside is
// read, and its file is not kept open.
func TestFollowedLogIsWhole(t *testing.T) {
	t.Parallel()
	hereOnly(t, "it looks into it")
	dir := t.TempDir()
	path := func(n int) string { return filepath.Join(dir, fmt.Sprint(n)) }
	if err := os.WriteFile(path(0), []byte("begin 0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path(0))
	if err != nil {
		t.Fatal(err)
	}
	at, want := 0, "begin 0\n"
	r, files := boxlite.Follow(f, func() (*os.File, error) {
		if at == 3 {
			return os.Open(path(at))
		}
		// All of it was read: now comes more, and another log takes its place.
		end, begin := fmt.Sprintf("end %d\n", at), fmt.Sprintf("begin %d\n", at+1)
		old, err := os.OpenFile(path(at), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		_, err = old.WriteString(end)
		at, want = at+1, want+end+begin
		if err := errors.Join(err, old.Close(), os.WriteFile(path(at), []byte(begin), 0o600)); err != nil {
			return nil, err
		}
		return os.Open(path(at))
	})
	defer r.Close()
	if got, err := io.ReadAll(r); string(got) != want || err != nil {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if n := files(); n != 1 {
		t.Errorf("%d files are open, want the last", n)
	}
}
