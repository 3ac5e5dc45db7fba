package agentbin

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// counting counts the bytes that are read of it.
type counting struct {
	io.ReaderAt
	n int
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.ReaderAt.ReadAt(p, off)
	c.n += n
	return n, err
}

// program builds a program that prints text, with these flags of the linker.
func program(t *testing.T, text, ldflags string) []byte {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(`"+text+"`) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", ldflags, "-o", out, src)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIDIsOfTheContent(t *testing.T) {
	seen := map[string]string{}
	for _, tt := range []struct {
		name, text, ldflags string
		whole               bool
	}{
		{"a program", "one", "-s -w", false},
		{"another program", "two", "-s -w", false},
		{"one without a build id", "one", "-s -w -buildid=", true},
		{"another without a build id", "two", "-s -w -buildid=", true},
	} {
		bin := program(t, tt.text, tt.ldflags)
		r := &counting{ReaderAt: bytes.NewReader(bin)}
		id, err := idOf(r, int64(len(bin)))
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[id]; ok {
			t.Errorf("%s: got the id of %s, want another", tt.name, other)
		}
		seen[id] = tt.name
		if whole := r.n >= len(bin); whole != tt.whole {
			t.Errorf("%s: %d of %d bytes were read, want all of them: %v", tt.name, r.n, len(bin), tt.whole)
		}
		if again, err := idOf(r, int64(len(bin))); err != nil || again != id {
			t.Errorf("%s, again: got %q, %v, want %q", tt.name, again, err, id)
		}
	}
}
