package crash

import (
	"errors"
	"io/fs"
	"log"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// mirror is a registry that has the image, on a port of the loopback device.
func mirror(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(registry.New(registry.Logger(log.New(t.Output(), "", 0))))
	t.Cleanup(s.Close)
	host := strings.TrimPrefix(s.URL, "http://")
	img, err := tarball.ImageFromPath(boxtest.Archive(t, boxtest.Alpine), nil)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(host+"/library/alpine:latest", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return host
}

// TestPullKilledAtEachStep checks that an image is whole or absent whenever its
// pull is killed, and that nothing of it stays for good.
func TestPullKilledAtEachStep(t *testing.T) {
	testenv.NeedGVisor(t)
	host := mirror(t)
	whole := duration(t, order{Home: t.TempDir(), Op: "pull", Mirror: host})
	n, pulled := points(), 0
	for i := range n {
		o := order{Home: t.TempDir(), Op: "pull", Mirror: host}
		c := startCaller(t, o)
		time.Sleep(whole * time.Duration(i) / time.Duration(n-1)) // the moment is what is tested
		c.kill()
		if afterPull(t, o) {
			pulled++
		}
	}
	t.Logf("%d of %d killed pulls in %v had the image", pulled, n, whole)
}

// afterPull uses the image, pulling it again if it is not there.
func afterPull(t *testing.T, o order) (had bool) {
	t.Helper()
	rt, err := boxlite.Open(t.Context(), boxlite.Config{
		Home: o.Home, Engine: boxtest.Engine,
		Mirrors: []boxlite.Mirror{{Registry: "docker.io", Host: o.Mirror, PlainHTTP: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	_, err = rt.Images().Get(t.Context(), boxtest.Alpine)
	had = err == nil
	if err != nil && !errors.Is(err, boxlite.ErrNotFound) {
		t.Fatal(err)
	}
	b, err := rt.Create(t.Context(), boxlite.BoxOptions{Image: boxtest.Alpine})
	if err != nil {
		t.Fatal(err)
	}
	if got := boxtest.Sh(t, b, "echo whole"); got != "whole\n" {
		t.Errorf("command: got %q, want %q", got, "whole\n")
	}
	if err := b.Remove(t.Context(), boxlite.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if _, _, err := rt.Images().Prune(t.Context(), true); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{"blobs/sha256", "rootfs", "tmp"} {
		_ = filepath.WalkDir(filepath.Join(o.Home, "images", dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				t.Errorf("after prune: left %s", path)
			}
			return nil
		})
	}
	return had
}
