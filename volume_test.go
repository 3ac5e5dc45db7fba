package boxlite_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/boxlite-go/boxlite"
)

func TestParseVolume(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]boxlite.Volume{
		"/h:/g":           {Host: "/h", Guest: "/g"},
		"/h:/g:rw":        {Host: "/h", Guest: "/g"},
		"/h/../i/:/g:ro":  {Host: "/i/", Guest: "/g", ReadOnly: true},
		"./h:/g":          {Host: filepath.Join(wd, "h"), Guest: "/g"},
		".:/g":            {Host: wd, Guest: "/g"},
		"../h:/g":         {Host: filepath.Join(filepath.Dir(wd), "h"), Guest: "/g"},
		"name:/g":         {Name: "name", Guest: "/g"},
		"na.me-1_x:/g:ro": {Name: "na.me-1_x", Guest: "/g", ReadOnly: true},
		"/:/host:ro":      {Host: "/", Guest: "/host", ReadOnly: true},
	} {
		got, err := boxlite.ParseVolume(in)
		if err != nil || got != want {
			t.Errorf("ParseVolume(%q): got %+v, %v, want %+v", in, got, err, want)
			continue
		}
		if again, err := boxlite.ParseVolume(got.String()); err != nil || again != got {
			t.Errorf("ParseVolume(%q): got %+v, %v, want what String told of", got, again, err)
		}
	}
	for in, want := range map[string]string{
		"":                                 "want HOST:GUEST",
		"/h":                               "want HOST:GUEST",
		":/g":                              "want HOST:GUEST",
		"/h:":                              "want HOST:GUEST",
		"/h:/g:ro:x":                       "want HOST:GUEST",
		"/h:/g:r0":                         `mode "r0": want ro or rw`,
		"/h:/g:":                           `mode "": want ro or rw`,
		"/h:/g:RO":                         "want ro or rw",
		"h/i:/g":                           "write ./h/i",
		"~/h:/g":                           "relative path",
		"..h:/g":                           "letters, digits",
		"na me:/g":                         "letters, digits",
		"/h:g":                             "give an absolute one",
		"/h:/":                             "root of the box",
		"/h:/g/..":                         "root of the box",
		"/h:/proc":                         "/proc is the box's own",
		"/h:/sys/x":                        "/sys is the box's own",
		"/h:/g/../dev":                     "/dev is the box's own",
		"/h:/.boxlite":                     "is the box's own",
		"/h:/g\x00":                        "zero byte",
		"/h\x00:/g":                        "zero byte",
		"/h:/" + strings.Repeat("g", 5000): "longer than 4095 bytes",
	} {
		_, err := boxlite.ParseVolume(in)
		if !errors.Is(err, boxlite.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseVolume(%.20q): got %v, want ErrInvalid with %q", in, err, want)
		}
	}
}

// hostDir makes a directory with a file "f" in it.
func hostDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCreateRefusesBadVolumes(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	dir := hostDir(t)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	type vs = []boxlite.Volume
	for name, tt := range map[string]struct {
		volumes vs
		is      error
		says    string
	}{
		"nothing":            {vs{{Guest: "/g"}}, boxlite.ErrInvalid, "neither a path of the host nor a name"},
		"both":               {vs{{Host: dir, Name: "n", Guest: "/g"}}, boxlite.ErrInvalid, "give one"},
		"relative host path": {vs{{Host: "tmp", Guest: "/g"}}, boxlite.ErrInvalid, "give an absolute one"},
		"missing host path":  {vs{{Host: dir + "/missing", Guest: "/g"}}, boxlite.ErrNotFound, "missing"},
		"missing name":       {vs{{Name: "missing", Guest: "/g"}}, boxlite.ErrNotFound, "create it first"},
		"file with a slash":  {vs{{Host: dir + "/f/", Guest: "/g"}}, boxlite.ErrInvalid, "f"},
		"fifo":               {vs{{Host: fifo, Guest: "/g"}}, boxlite.ErrInvalid, "neither a directory nor a regular file"},
		"relative in box":    {vs{{Host: dir, Guest: "g"}}, boxlite.ErrInvalid, "give an absolute one"},
		"no path in box":     {vs{{Host: dir}}, boxlite.ErrInvalid, "give an absolute one"},
		"root of the box":    {vs{{Host: dir, Guest: "/"}}, boxlite.ErrInvalid, "root of the box"},
		"twice":              {vs{{Host: dir, Guest: "/g"}, {Host: "/", Guest: "/g/"}}, boxlite.ErrInvalid, "both on /g"},
		"too many":           {make(vs, 65), boxlite.ErrInvalid, "at most 64"},
	} {
		_, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: image, Volumes: tt.volumes})
		if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want %v with %q", name, err, tt.is, tt.says)
		}
	}
	if infos, err := rt.Boxes(t.Context()); err != nil || len(infos) > 0 {
		t.Errorf("boxes after refusals: got %v, %v, want none", infos, err)
	}
}

// What was there at Create may be gone at Start.
func TestStartLooksAtVolumesAgain(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	dir := hostDir(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	v := boxlite.Volume{Host: link, Guest: "/made/g/"}
	b := newBox(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{v}})
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); !errors.Is(err, boxlite.ErrNotFound) || !strings.Contains(err.Error(), link) {
		t.Errorf("Start without the host path: got %v, want ErrNotFound that names it", err)
	}
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []boxlite.Volume{v}; !reflect.DeepEqual(info.Options.Volumes, want) {
		t.Errorf("volumes of the options: got %v, want %v", info.Options.Volumes, want)
	}
	if want := []boxlite.Volume{{Host: dir, Guest: "/made/g"}}; !reflect.DeepEqual(info.Mounts, want) {
		t.Errorf("mounts: got %v, want %v", info.Mounts, want)
	}
}

func TestNamedVolumes(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	vols := rt.Volumes()
	made, err := vols.Create(t.Context(), "data")
	if err != nil || made.Name != "data" || made.Created.IsZero() {
		t.Fatalf("Create: got %+v, %v", made, err)
	}
	if _, err := vols.Create(t.Context(), "data"); !errors.Is(err, boxlite.ErrExists) {
		t.Errorf("Create of one that is there: got %v, want ErrExists", err)
	}
	for _, name := range []string{"../x", ".x", "a/b", "a b"} {
		if _, err := vols.Create(t.Context(), name); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("Create(%q): got %v, want ErrInvalid", name, err)
		}
	}
	unnamed, err := vols.Create(t.Context(), "")
	if err != nil || unnamed.Name == "" {
		t.Fatalf("Create without a name: got %+v, %v, want one made up", unnamed, err)
	}

	if err := os.WriteFile(filepath.Join(made.Path, "f"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(made.Path, "f"), filepath.Join(made.Path, "g")); err != nil {
		t.Fatal(err)
	}
	one := newBox(t, rt, boxlite.BoxOptions{Name: "one", Volumes: []boxlite.Volume{{Name: "data", Guest: "/a"}, {Name: "data", Guest: "/b", ReadOnly: true}}})
	two := newBox(t, rt, boxlite.BoxOptions{Volumes: []boxlite.Volume{{Name: "data", Guest: "/a"}}})
	info, err := vols.Inspect(t.Context(), "data")
	if err != nil || info.Size < 1<<20 || info.Size > 3<<19 {
		t.Errorf("size of one file of 1 MiB with two names: got %d, %v", info.Size, err)
	}
	if want := []string{"one", two.ID()}; !slices.Equal(info.Boxes, want) {
		t.Errorf("boxes of the volume: got %q, want %q", info.Boxes, want)
	}
	if err := vols.Remove(t.Context(), "data"); !errors.Is(err, boxlite.ErrState) || !strings.Contains(err.Error(), "one") {
		t.Errorf("Remove of one in use: got %v, want ErrState that names the box", err)
	}
	list, err := vols.List(t.Context())
	if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(i boxlite.VolumeInfo) bool { return reflect.DeepEqual(i, info) }) {
		t.Errorf("List: got %+v, %v, want two with %+v", list, err, info)
	}
	removed, err := vols.Prune(t.Context())
	if err != nil || len(removed) != 1 || removed[0].Name != unnamed.Name {
		t.Errorf("Prune: got %+v, %v, want %s alone", removed, err, unnamed.Name)
	}
	for _, b := range []*boxlite.Box{one, two} {
		if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	if err := vols.Remove(t.Context(), "data"); err != nil {
		t.Errorf("Remove: got %v, want nil", err)
	}
	for what, err := range map[string]error{
		"Remove":             vols.Remove(t.Context(), "data"),
		"Remove of a path":   vols.Remove(t.Context(), "../boxes"),
		"Remove of the lock": vols.Remove(t.Context(), ".lock"),
		"Inspect":            second(vols.Inspect(t.Context(), "data")),
		"Inspect of a path":  second(vols.Inspect(t.Context(), "../boxes")),
	} {
		if !errors.Is(err, boxlite.ErrNotFound) {
			t.Errorf("%s of what is none: got %v, want ErrNotFound", what, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A volume is never taken from a box that is being created: either of the two
// is refused.
func TestVolumeIsNotRemovedUnderABox(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	for range 20 {
		if _, err := rt.Volumes().Create(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
		var box *boxlite.Box
		var created, removed error
		var both sync.WaitGroup
		both.Go(func() {
			box, created = rt.Create(t.Context(), boxlite.BoxOptions{Image: image, Volumes: []boxlite.Volume{{Name: "v", Guest: "/v"}}})
		})
		both.Go(func() { removed = rt.Volumes().Remove(t.Context(), "v") })
		both.Wait()
		if (created == nil) == (removed == nil) {
			t.Fatalf("Create: %v, Remove: %v; want one of them refused", created, removed)
		}
		if created == nil {
			if err := box.Remove(t.Context(), boxlite.RemoveOptions{}); err != nil {
				t.Fatal(err)
			}
			if err := rt.Volumes().Remove(t.Context(), "v"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A removal that a crash interrupted is finished when the home is opened.
func TestInterruptedVolumeRemovalIsFinished(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	rt := open(t, home)
	v, err := rt.Volumes().Create(t.Context(), "kept")
	if err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(filepath.Dir(v.Path), ".removed-x")
	if err := os.MkdirAll(filepath.Join(left, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(left, "d"), 0); err != nil {
		t.Fatal(err)
	}
	if list, err := rt.Volumes().List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("List beside a leftover: got %v, %v, want one", list, err)
	}
	open(t, home)
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftover after Open: got %v, want it gone", err)
	}
	if _, err := os.Lstat(v.Path); err != nil {
		t.Errorf("volume after Open: %v", err)
	}
}
