package gvisor_test

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/boxlite-go/boxlite/internal/erofs"
)

// buildRootfs makes the image the tests boot: busybox and a few files that
// layers may change.
var buildRootfs = sync.OnceValues(func() ([]byte, error) {
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	put := func(h tar.Header, content string) {
		h.Size = int64(len(content))
		if e := tw.WriteHeader(&h); err == nil {
			err = e
		}
		if _, e := tw.Write([]byte(content)); err == nil {
			err = e
		}
	}
	for _, d := range []string{"bin", "etc", "root", "tmp", "lower", "lower/dir", "lower/gone", "var"} {
		mode := int64(0o755)
		if d == "tmp" {
			mode = 0o1777
		}
		put(tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: mode}, "")
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, string(busybox))
	for _, a := range strings.Fields(string(applets)) {
		if a == "busybox" {
			continue
		}
		put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777}, "")
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
	put(tar.Header{Typeflag: tar.TypeReg, Name: "etc/group", Mode: 0o644}, "root:x:0:\nuser:x:1000:\n")
	for _, f := range []string{"lower/kept", "lower/changed", "lower/deleted", "lower/dir/a", "lower/gone/b"} {
		put(tar.Header{Typeflag: tar.TypeReg, Name: f, Mode: 0o644}, "image\n")
	}
	if e := tw.Close(); err == nil {
		err = e
	}
	return layer.Bytes(), err
})

// rootfs returns an EROFS file of the test image.
func rootfs(tb testing.TB) string {
	tb.Helper()
	layer, err := buildRootfs()
	if err != nil {
		tb.Skipf("needs busybox-static: %v", err)
	}
	f, err := os.Create(filepath.Join(tb.TempDir(), "rootfs.erofs"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	w := erofs.NewWriter(f, erofs.Options{})
	if err := w.AddLayer(bytes.NewReader(layer)); err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return f.Name()
}
