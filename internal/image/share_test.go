package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/types"
)

// childEnv makes the test binary another process on a store.
const childEnv = "BOXLITE_IMAGE_TEST_CHILD"

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		if err := child(mode, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func child(mode string, args []string) error {
	ctx := context.Background()
	if mode == "full" { // on a small disk of its own
		if err := syscall.Mount("none", args[0], "tmpfs", 0, "size=512k"); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
	}
	s, err := Open(Config{
		Dir: args[0], Keychain: noKeychain{}, Platform: "linux/" + testArch,
		Registries: []Registry{{Host: "registry.invalid", PlainHTTP: true}},
	})
	if err != nil {
		return err
	}
	switch mode {
	case "pull":
		im, err := s.Pull(ctx, args[1], PullOptions{})
		if err == nil {
			fmt.Println(im.Digest)
		}
		return err
	case "full":
		_, err := s.Pull(ctx, args[1], PullOptions{})
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "prune") {
			return fmt.Errorf("pull on a full disk: got %w, want ErrNoSpace", err)
		}
		e, err := os.ReadDir(s.path("tmp"))
		if err != nil || len(e) != 0 {
			return fmt.Errorf("left in tmp: %v, %w", e, err)
		}
		small, err := s.Pull(ctx, args[2], PullOptions{})
		if err != nil {
			return fmt.Errorf("pull of a small image afterwards: %w", err)
		}
		_, err = os.Stat(small.Rootfs)
		return err
	case "churn": // until it is killed
		fmt.Println("ready")
		for {
			if err := churn(ctx, s, args[1:]); err != nil {
				return err
			}
		}
	}
	return errors.New("unknown mode")
}

// churn does everything that changes a store, once.
func churn(ctx context.Context, s *Store, names []string) error {
	for _, n := range names {
		if _, err := s.Pull(ctx, n, PullOptions{}); err != nil {
			return err
		}
	}
	layer, err := os.Open(os.Getenv("BOXLITE_IMAGE_TEST_LAYER"))
	if err != nil {
		return err
	}
	defer layer.Close()
	if _, err := s.Import(ctx, layer, "imported:1", ImportOptions{}); err != nil {
		return err
	}
	for _, n := range append(names, "imported:1") {
		if _, err := s.Remove(ctx, n, nil); err != nil {
			return err
		}
	}
	_, _, err = s.Prune(ctx, nil)
	return err
}

func command(mode string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	return cmd
}

// TestProxyOfTheEnvironmentIsUsed pulls from a host that only the proxy knows.
func TestProxyOfTheEnvironmentIsUsed(t *testing.T) {
	h := newHub(t)
	digest := h.push(t, "a:1", simple(t, "a", 1000))
	cmd := command("pull", t.TempDir(), "registry.invalid/a:1")
	cmd.Env = append(cmd.Env, "HTTP_PROXY="+h.URL, "HTTPS_PROXY=", "NO_PROXY=")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != digest {
		t.Errorf("pull through a proxy: got %s, %v, want %s", out, err, digest)
	}
}

func TestConcurrentPullsDoTheWorkOnce(t *testing.T) {
	h := newHub(t)
	digest := h.push(t, "a:1", simple(t, "a", 300_000))
	h.misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if blobGet(r) { // long enough for the others to come
			time.Sleep(50 * time.Millisecond)
		}
		return false
	})
	s := testStore(t, linux(Config{}))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			im, err := s.Ensure(t.Context(), h.host+"/a:1", PullOptions{})
			if err != nil || im.Digest != digest {
				t.Errorf("Ensure: got %v, %v", im, err)
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			out, err := command("pull", s.dir, h.host+"/a:1").CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != digest {
				t.Errorf("pull of another process: got %s, %v", out, err)
			}
		})
	}
	wg.Wait()
	if n := h.blobs.Load(); n != 3 {
		t.Errorf("blobs downloaded by nine at once: got %d, want 3", n)
	}
	mustBeWhole(t, s)
	if got := leftovers(t, s); got != nil {
		t.Errorf("left in tmp: %v", got)
	}
}

func TestImagesThatShareLayersDownloadThemOnce(t *testing.T) {
	h := newHub(t)
	base := layerOf(t, zip(t, content(t, "base", noiseOf("base", 200_000))), types.OCILayer)
	h.push(t, "a:1", imageOf(t, base, layerOf(t, zip(t, content(t, "a", "a")), types.OCILayer)))
	h.push(t, "b:1", imageOf(t, base, layerOf(t, zip(t, content(t, "b", "b")), types.OCILayer)))
	s := testStore(t, linux(Config{}))
	var wg sync.WaitGroup
	for _, ref := range []string{"/a:1", "/b:1"} {
		wg.Go(func() {
			if _, err := s.Pull(t.Context(), h.host+ref, PullOptions{}); err != nil {
				t.Errorf("pull %s: %v", ref, err)
			}
		})
	}
	wg.Wait()
	if n := h.blobs.Load(); n != 5 { // two configurations, two layers, the base
		t.Errorf("blobs: got %d, want 5", n)
	}
	// What one leaves is still there for the other.
	if _, err := s.Remove(t.Context(), h.host+"/a:1", nil); err != nil {
		t.Fatal(err)
	}
	mustBeWhole(t, s)
}

// TestCollectionSparesLivePulls prunes all the time while images come in.
func TestCollectionSparesLivePulls(t *testing.T) {
	h := newHub(t)
	for i := range 4 {
		h.push(t, fmt.Sprintf("a:%d", i), simple(t, fmt.Sprint(i), 100_000))
	}
	s := testStore(t, linux(Config{}))
	ctx, stop := context.WithCancel(t.Context())
	var pruner, pullers sync.WaitGroup
	pruner.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := s.Prune(t.Context(), nil); err != nil {
				t.Errorf("prune: %v", err)
			}
		}
	})
	for i := range 4 {
		pullers.Go(func() {
			for range 3 {
				im, err := s.Pull(t.Context(), fmt.Sprintf("%s/a:%d", h.host, i), PullOptions{})
				if err != nil {
					t.Errorf("pull while others prune: %v", err)
					return
				}
				mustHold(t, im, fmt.Sprintf("of %d", i))
			}
		})
	}
	pullers.Wait()
	stop()
	pruner.Wait()
	mustBeWhole(t, s)
}

// TestKilledAtAnyMomentTheStoreWorks kills a process that pulls, imports,
// removes and prunes, and looks at what it left.
func TestKilledAtAnyMomentTheStoreWorks(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 300_000))
	h.push(t, "a:2", simple(t, "b", 200_000))
	dir, layer := t.TempDir(), t.TempDir()+"/layer"
	if err := os.WriteFile(layer, zip(t, content(t, "imported", noiseOf("i", 100_000))), 0o600); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		cmd := command("churn", dir, h.host+"/a:1", h.host+"/a:2")
		cmd.Env = append(cmd.Env, "BOXLITE_IMAGE_TEST_LAYER="+layer)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, len("ready"))); err != nil {
			t.Fatalf("round %d: the other process did not begin: %v", round, err)
		}
		time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond) // any moment
		cmd.Process.Kill()
		cmd.Wait()

		s := testStore(t, linux(Config{Dir: dir}))
		mustBeWhole(t, s)
		mustHold(t, mustPull(t, s, h.host+"/a:1"), noiseOf("a", 300_000)[299_000:])
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	s := testStore(t, linux(Config{Dir: dir}))
	if _, _, err := s.Prune(t.Context(), func(*Image) bool { return false }); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"tmp", "rootfs", "blobs/sha256"} {
		if e, _ := os.ReadDir(s.path(d)); len(e) != 0 {
			t.Errorf("files in %s after all was pruned: got %d, want none", d, len(e))
		}
	}
}

// TestFullDiskLeavesNothingHalfWritten needs a small file system, which it
// mounts in namespaces of its own.
func TestFullDiskLeavesNothingHalfWritten(t *testing.T) {
	h := newHub(t)
	h.push(t, "big:1", simple(t, "a", 800_000))
	h.push(t, "unpacked:1", imageOf(t, layerOf(t, zip(t, content(t, "x", strings.Repeat(noiseOf("x", 5000), 200))), types.OCILayer)))
	h.push(t, "small:1", simple(t, "b", 1000))
	for _, big := range []string{"/big:1", "/unpacked:1"} {
		cmd := command("full", t.TempDir(), h.host+big, h.host+"/small:1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) || strings.Contains(string(out), "mount: ") {
			t.Skipf("needs user namespaces that may mount: %v %s", err, out)
		}
		if err != nil {
			t.Errorf("%s: %s", big, out)
		}
	}
}
