package boxlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
)

// TestOnlyTextIsTaken: what would not arrive as it is, because it is no text, is
// refused where it is given, and nothing else is done in its place.
func TestOnlyTextIsTaken(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	const bad = "/caf\xe9"
	for name, o := range map[string]boxlite.BoxOptions{
		"argument": {Cmd: []string{bad}}, "variable": {Env: []string{"A=" + bad}}, "directory": {WorkingDir: bad}, "user": {User: bad},
		"host name": {Hostname: bad}, "label": {Labels: map[string]string{"a": bad}}, "root": {Rootfs: bad},
		"volume": {Volumes: []boxlite.Volume{{Host: bad, Guest: "/v"}}}, "place of a volume": {Volumes: []boxlite.Volume{{Host: "/", Guest: bad}}},
	} {
		if _, err := rt.Create(t.Context(), o); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	b := newBox(t, rt, boxlite.BoxOptions{})
	for name, change := range map[string]func(*boxlite.Cmd){
		"argument": func(c *boxlite.Cmd) { c.Args = append(c.Args, bad) }, "variable": func(c *boxlite.Cmd) { c.Env = []string{"A=" + bad} },
		"directory": func(c *boxlite.Cmd) { c.Dir = bad }, "user": func(c *boxlite.Cmd) { c.User = bad },
	} {
		c := b.Command(t.Context(), "true")
		change(c)
		if err := c.Run(); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("command, %s: got %v, want ErrInvalid", name, err)
		}
	}
	c := b.Main(t.Context())
	c.Timeout = -time.Second
	if err := c.Run(); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("main command with a negative timeout: got %v, want ErrInvalid", err)
	}
}

// TestStrangePaths: homes and volumes may be called as files may, in text; what is
// no text is refused.
func TestStrangePaths(t *testing.T) {
	t.Parallel()
	hereOnly(t, "it opens homes")
	for _, name := range []string{"a b", "a\nb", `[a'"\`, "a:b,c%2F?#", "é"} {
		rt := open(t, filepath.Join(t.TempDir(), name))
		if _, err := rt.Boxes(t.Context()); err != nil {
			t.Errorf("home %q: %v", name, err)
		}
	}
	odd := filepath.Join(t.TempDir(), "\xff")
	if _, err := boxlite.Open(t.Context(), boxlite.Config{Home: odd, Engine: testEngine()}); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("a home that is no text: got %v, want ErrInvalid", err)
	}
	if _, err := os.Lstat(odd); err == nil {
		t.Error("a home that is no text was made")
	}
	rt := newRuntime(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Mkdir(odd, 0o700), os.Symlink(odd, link)); err != nil {
		t.Fatal(err)
	}
	if _, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: image, Volumes: []boxlite.Volume{{Host: link, Guest: "/v"}}}); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("a volume that leads to what is no text: got %v, want ErrInvalid", err)
	}
}
