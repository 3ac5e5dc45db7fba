package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

func TestFind(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	for i, b := range []Box{{ID: "abc1", Name: "one"}, {ID: "abc2"}, {ID: "zz", Name: "abc"}, {ID: "one5"}} {
		b.Created, b.Options = time.Unix(int64(i), 0), []byte("{}")
		if err := s.Add(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		key, want string
		err       error
	}{
		{"abc1", "abc1", nil},
		{"one", "abc1", nil}, // a name goes before a prefix
		{"abc", "zz", nil},   // also when the prefix is ambiguous
		{"ab", "", ErrAmbiguous},
		{"z", "zz", nil},
		{"", "", ErrNotFound},
		{"nope", "", ErrNotFound},
		{"%", "", ErrNotFound},
	} {
		got, err := s.Find(t.Context(), tt.key)
		if got.ID != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("Find(%q): got %q, %v, want %q, %v", tt.key, got.ID, err, tt.want, tt.err)
		}
	}
}

// TestWholeKeys: what looks like an id does not hide a name, and the other way
// round.
func TestWholeKeys(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	for _, b := range []Box{{ID: "abc1", Name: "zz9"}, {ID: "zz9", Name: "abc"}, {ID: "nameless"}} {
		b.Created, b.Options = time.Unix(1, 0), []byte("{}")
		if err := s.Add(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		what, key, want string
		get             func(context.Context, string) (Box, error)
	}{
		{"Named", "zz9", "abc1", s.Named},
		{"Named", "abc1", "", s.Named},
		{"Named", "ab", "", s.Named},
		{"Get", "zz9", "zz9", s.Get},
		{"Get", "abc", "", s.Get},
		{"Get", "nameles", "", s.Get},
	} {
		got, err := tt.get(t.Context(), tt.key)
		if got.ID != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, ErrNotFound) {
			t.Errorf("%s(%q): got %q, %v, want %q", tt.what, tt.key, got.ID, err, tt.want)
		}
	}
}

func TestNameIsTakenOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	stores := []*Store{open(t, path), open(t, path)}
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			errs[i] = stores[i%2].Add(t.Context(), Box{ID: fmt.Sprint("id", i), Name: "same", Options: []byte("{}")})
		})
	}
	wg.Wait()
	added := 0
	for _, err := range errs {
		switch {
		case err == nil:
			added++
		case !errors.Is(err, ErrExists):
			t.Errorf("Add: got %v, want ErrExists", err)
		}
	}
	if added != 1 {
		t.Errorf("added: got %d, want 1", added)
	}
}

func TestRoundTripAndRemove(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "db"))
	want := Box{ID: "a", Created: time.Now().Round(0), Options: []byte(`{"x":1}`)}
	if err := s.Add(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := s.SetImage(t.Context(), "a", "sha256:1"); err != nil {
		t.Fatal(err)
	}
	got, err := s.Find(t.Context(), "a")
	if err != nil || got.Image != "sha256:1" || !got.Created.Equal(want.Created) || string(got.Options) != `{"x":1}` {
		t.Errorf("Find: got %+v, %v, want %+v", got, err, want)
	}
	if err := s.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("second Remove: got %v, want ErrNotFound", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	c, err := sqlite.OpenConn(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(c, "PRAGMA user_version = 99", nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if s, err := Open(path); err == nil {
		s.Close()
		t.Error("Open of a newer schema: got nil, want an error")
	}
}
