package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/boxlite-go/boxlite/internal/engine"
	"github.com/boxlite-go/boxlite/internal/engine/enginetest"
	"github.com/boxlite-go/boxlite/internal/guest"
)

func authority(name string) []byte {
	return []byte("-----BEGIN CERTIFICATE-----\n" + name + "\n-----END CERTIFICATE-----\n")
}

// box starts an agent whose root is the directory that is returned.
func box(t *testing.T) (root string, c *guest.Client) {
	t.Helper()
	disk := t.TempDir()
	m, err := enginetest.Fake().Start(t.Context(), engine.Spec{
		ID: "test", Dir: t.TempDir(), Disk: disk, DiskSize: 1 << 30, CPUs: 1, Memory: 1 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop(t.Context()) })
	return filepath.Join(disk, "root"), guest.NewClient(m.Dial)
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func trust(t *testing.T, c *guest.Client, ca, roots []byte) {
	t.Helper()
	if err := c.Trust(t.Context(), guest.Trust{CA: ca, Roots: roots}); err != nil {
		t.Fatal(err)
	}
}

func TestTrustIsReplacedAtEachStart(t *testing.T) {
	root, c := box(t)
	image := string(authority("of the image"))
	bundle := filepath.Join(root, guest.BundlePath)
	put(t, bundle, strings.TrimSuffix(image, "\n"))
	linked := filepath.Join(root, "/etc/ssl/cert.pem")
	if err := os.Symlink("certs/ca-certificates.crt", linked); err != nil {
		t.Fatal(err)
	}
	fedora := filepath.Join(root, "/etc/pki/tls/certs/ca-bundle.crt")
	put(t, fedora, image)
	for _, ca := range []string{"first", "second"} {
		trust(t, c, authority(ca), authority("of the host"))
	}
	got := text(t, bundle)
	if !strings.HasPrefix(got, image) || strings.Contains(got, "of the host") {
		t.Errorf("bundle: got\n%swant the image's first and nothing of the host", got)
	}
	if strings.Contains(got, "first") || strings.Count(got, "second") != 1 {
		t.Errorf("bundle: got\n%swant the second authority alone", got)
	}
	if other := text(t, fedora); other != got {
		t.Errorf("other bundle: got\n%swant\n%s", other, got)
	}
	if st, err := os.Lstat(linked); err != nil || st.Mode().Type() != os.ModeSymlink {
		t.Errorf("linked bundle: got %v, %v, want the link", st.Mode(), err)
	}
	if got, want := text(t, filepath.Join(root, guest.AuthorityPath)), string(authority("second")); got != want {
		t.Errorf("authority: got\n%swant\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(root, "/etc/ssl/ca-bundle.pem")); err == nil {
		t.Error("a bundle was made that the image does not have")
	}
}

func TestTrustMakesABundle(t *testing.T) {
	root, c := box(t)
	bundle := filepath.Join(root, guest.BundlePath)
	for _, ca := range []string{"first", "second"} {
		trust(t, c, authority(ca), authority("of the host"))
	}
	got := text(t, bundle)
	if strings.Count(got, "of the host") != 1 || strings.Contains(got, "first") || strings.Count(got, "second") != 1 {
		t.Errorf("bundle: got\n%swant the host's authorities and the second, once", got)
	}
	if st, err := os.Stat(bundle); err != nil || st.Mode().Perm() != 0o644 {
		t.Errorf("bundle: got mode %v, %v, want 0644", st.Mode(), err)
	}
}

// TestTrustLeavesDevicesAlone has a bundle that is a link to what is no file.
func TestTrustLeavesDevicesAlone(t *testing.T) {
	root, c := box(t)
	put(t, filepath.Join(root, "/etc/ssl/x"), "")
	device, linked := filepath.Join(root, "device"), filepath.Join(root, "/etc/ssl/cert.pem")
	if err := unix.Mkfifo(device, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../device", linked); err != nil {
		t.Fatal(err)
	}
	trust(t, c, authority("ours"), nil)
	if st, err := os.Lstat(device); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("what the bundle was a link to: got %v, %v, want it as it was", st.Mode(), err)
	}
	if got := text(t, linked); !strings.Contains(got, "ours") {
		t.Errorf("bundle: got %q, want the authority", got)
	}
}

// TestTrustDoesNotWait has a pipe and a directory where bundles should be.
func TestTrustDoesNotWait(t *testing.T) {
	root, c := box(t)
	put(t, filepath.Join(root, "/etc/ssl/x"), "")
	if err := unix.Mkfifo(filepath.Join(root, "/etc/ssl/cert.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	trust(t, c, authority("ours"), nil)
	if got := text(t, filepath.Join(root, "/etc/ssl/cert.pem")); !strings.Contains(got, "ours") {
		t.Errorf("bundle in place of a pipe: got %q, want the authority", got)
	}
	if err := os.MkdirAll(filepath.Join(root, "/etc/ssl/ca-bundle.pem"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.Trust(t.Context(), guest.Trust{CA: authority("ours")}); err == nil {
		t.Error("bundle that is a directory: got nil, want an error")
	}
	for name, bad := range map[string]guest.Trust{
		"nothing":      {},
		"no PEM":       {CA: []byte("x")},
		"large":        {CA: append(authority("x"), make([]byte, 64<<10)...)},
		"large bundle": {CA: authority("x"), Roots: make([]byte, 512<<10+1)},
	} {
		if err := c.Trust(t.Context(), bad); err == nil {
			t.Errorf("%s: got nil, want an error", name)
		}
	}
}
