package main

import (
	"archive/tar"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// makeDeb builds a package of the given files; a name in DEBIAN is a control file.
func makeDeb(t *testing.T, name string, files map[string]string) string {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("needs dpkg-deb: ", err)
	}
	dir := t.TempDir()
	control := "Package: " + name + "\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: test\n"
	files["DEBIAN/control"] = control
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), name+".deb")
	if b, err := exec.Command("dpkg-deb", "--root-owner-group", "-b", dir, out).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, b)
	}
	return out
}

// makeImage packs packages as a recipe would.
func makeImage(t *testing.T, r recipe, debs ...string) v1.Image {
	t.Helper()
	dir := t.TempDir()
	tr, err := newTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	if err := r.fill(t.Context(), tr, debs); err != nil {
		t.Fatal(err)
	}
	layer, file := filepath.Join(dir, "layer.tar.gz"), r.path(dir)
	if err := writeLayer(layer, tr); err != nil {
		t.Fatal(err)
	}
	if err := writeArchive(file, layer, r, "stamp"); err != nil {
		t.Fatal(err)
	}
	if !current(file, "stamp") || current(file, "other") {
		t.Errorf("current: does not tell the stamp of %s", file)
	}
	return readImage(t, file)
}

func readImage(t *testing.T, file string) v1.Image {
	t.Helper()
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// list reads the flattened image: header and content by name.
func list(t *testing.T, img v1.Image) (map[string]*tar.Header, map[string]string) {
	t.Helper()
	r := mutate.Extract(img)
	defer r.Close()
	headers, contents := map[string]*tar.Header{}, map[string]string{}
	tr := tar.NewReader(r)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return headers, contents
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(hdr.Name, "/")
		headers[name] = hdr
		if hdr.Size < 1<<20 {
			b, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			contents[name] = string(b)
		}
	}
}

func TestPackagesBecomeOneTree(t *testing.T) {
	r := recipe{
		name: "t", ref: "t:latest", drop: []string{"dropped"},
		links: [][2]string{{"usr/local/bin/tool", "/usr/bin/tool"}},
		files: [][2]string{{"usr/local/bin/hello", "#!/bin/sh\n"}},
	}
	headers, contents := list(t, makeImage(
		t, r,
		makeDeb(t, "one", map[string]string{
			"bin/tool": "tool", "usr/share/doc/one/copyright": "mine", "usr/share/doc/one/README": "no",
			"usr/share/ca-certificates/x/a.crt": "CERT\n\n", "usr/bin/dpkg": "dpkg",
			"etc/one.conf": "conf", "DEBIAN/conffiles": "/etc/one.conf\n", "DEBIAN/postinst": "#!/bin/sh\n",
		}),
		makeDeb(t, "two", map[string]string{"usr/bin/other": "other", "lib64/ld.so": "ld", "usr/lib/python3/EXTERNALLY-MANAGED": "no"}),
		makeDeb(t, "dropped", map[string]string{"usr/bin/dropped": "no"}),
	))
	for name, want := range map[string]string{
		"usr/bin/tool":                      "tool",
		"usr/bin/other":                     "other",
		"usr/lib64/ld.so":                   "ld",
		"usr/share/doc/one/copyright":       "mine",
		"etc/ssl/certs/ca-certificates.crt": "CERT\n",
		"var/lib/dpkg/info/one.postinst":    "#!/bin/sh\n",
		"usr/local/bin/hello":               "#!/bin/sh\n",
		"etc/passwd":                        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
		"etc/shadow":                        "root:*:18262:0:99999:7:::\nnobody:*:18262:0:99999:7:::\n",
		"var/lib/dpkg/info/two.list":        "",
		"usr/share/ca-certificates/x/a.crt": "CERT\n\n",
		"var/lib/dpkg/info/format":          "1\n",
		"var/lib/dpkg/diversions":           "",
		"var/lib/dpkg/info/one.conffiles":   "/etc/one.conf\n",
		"var/lib/dpkg/triggers/File":        "",
		"var/lib/dpkg/statoverride":         "",
		"var/lib/dpkg/triggers/Unincorp":    "",
		"etc/hosts":                         "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n",
		"etc/one.conf":                      "conf",
		"etc/os-release":                    "ID=boxlite\nNAME=\"boxlite stand-in\"\nPRETTY_NAME=\"boxlite stand-in for t:latest\"\n",
	} {
		if headers[name] == nil {
			t.Errorf("%s: missing", name)
		} else if want != "" && contents[name] != want {
			t.Errorf("%s: got %q, want %q", name, contents[name], want)
		}
	}
	for _, name := range []string{"usr/bin/dropped", "usr/share/doc/one/README", "usr/lib/python3/EXTERNALLY-MANAGED"} {
		if headers[name] != nil {
			t.Errorf("%s: is there", name)
		}
	}
	for name, want := range map[string]string{"bin": "usr/bin", "lib64": "usr/lib64", "usr/local/bin/tool": "/usr/bin/tool"} {
		if h := headers[name]; h == nil || h.Linkname != want {
			t.Errorf("%s: got %+v, want a link to %s", name, h, want)
		}
	}
	if got, want := contents["var/lib/dpkg/status"], "Conffiles:\n /etc/one.conf "+md5Hex([]byte("conf")); !strings.Contains(got, want) {
		t.Errorf("status: got %q, want it to contain %q", got, want)
	}
	if got := headers["tmp"].Mode; got != 0o1777 {
		t.Errorf("tmp: mode %o, want 1777", got)
	}
}

func TestSamePackagesMakeSameImage(t *testing.T) {
	deb := makeDeb(t, "one", map[string]string{"usr/bin/tool": "tool", "usr/bin/dpkg": "", "DEBIAN/preinst": "#!/bin/sh\n"})
	var digests [2]v1.Hash
	for i := range digests {
		var err error
		if digests[i], err = makeImage(t, recipe{name: "t", ref: "t:latest"}, deb).Digest(); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] {
		t.Errorf("digests differ: %v and %v", digests[0], digests[1])
	}
}

// TestBuiltImages looks at what make images left, if it was run.
func TestBuiltImages(t *testing.T) {
	dir := os.Getenv("BOXLITE_TEST_IMAGES")
	if dir == "" {
		t.Skip("needs BOXLITE_TEST_IMAGES: make test sets it")
	}
	for name, program := range map[string]string{
		"python-slim": "usr/local/bin/python", "dev": "usr/bin/cc",
		"node-alpine": "usr/local/bin/node", "alpine": "usr/bin/sh",
	} {
		t.Run(name, func(t *testing.T) {
			img := readImage(t, filepath.Join(dir, name+".tar"))
			if headers, _ := list(t, img); headers[program] == nil {
				t.Errorf("%s: missing", program)
			}
			cf, err := img.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if len(cf.Config.Cmd) == 0 || len(cf.Config.Env) == 0 {
				t.Errorf("config: got %+v, want a command and an environment", cf.Config)
			}
		})
	}
}
