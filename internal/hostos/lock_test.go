package hostos

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestLockExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if _, err := TryLock(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("TryLock of a missing file: got %v, want ErrNotExist", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(want bool) {
		t.Helper()
		if got, err := Locked(path); err != nil || got != want {
			t.Errorf("Locked: got %v, %v, want %v", got, err, want)
		}
	}
	check(false)
	l, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	check(true)
	if _, err := TryLock(path); !errors.Is(err, ErrLocked) {
		t.Errorf("second TryLock: got %v, want ErrLocked", err)
	}
	l.Unlock()
	check(false)
}

func TestLockOfRemovedFileIsNotTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := TryLock(path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	started := make(chan struct{})
	go func() {
		close(started)
		l, err := WaitLock(path)
		if err == nil {
			l.Unlock()
		}
		got <- err
	}()
	<-started
	os.Remove(path)
	first.Unlock()
	if err := <-got; !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("WaitLock of a removed file: got %v, want ErrNotExist", err)
	}
}

func TestWriteFileAtomic(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	for _, want := range []string{"one", "two"} {
		if err := WriteFileAtomic(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("content: got %q, want %q", got, want)
		}
	}
	if e, _ := os.ReadDir(dir); len(e) != 1 {
		t.Errorf("files left: got %d, want 1", len(e))
	}
}
