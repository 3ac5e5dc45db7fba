package real

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/boxlite-go/boxlite/test/netlab"
)

// online makes a box that may reach allowed.test and the names below it, and
// trusts the laboratory's certificates.
func online(t *testing.T, image string) (*netlab.Lab, *boxlite.Box) {
	t.Helper()
	lab, rt := netlab.Runtime(t, image)
	const ca = "/lab.pem"
	o := boxlite.BoxOptions{
		Image: image, MemoryMiB: 1024,
		Network: netlab.Policy(t, egress.AllowList, "allowed.test", "*.allowed.test"),
	}
	for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT"} {
		o.Env = append(o.Env, name+"="+ca)
	}
	b := boxtest.Box(t, rt, o)
	if err := b.WriteFile(t.Context(), ca, lab.CA(), 0o644); err != nil {
		t.Fatal(err)
	}
	return lab, b
}

// client is a program that fetches a URL: it prints the page, or fails.
type client struct{ name, image, script string }

var clients = []client{
	{"curl", boxtest.Dev, `curl -sS --fail-with-body -m 20 "$0"`},
	{"curl with HTTP/1.1", boxtest.Dev, `curl -sS --http1.1 --fail-with-body -m 20 "$0"`},
	{"requests", boxtest.Dev, `python3 -c 'import requests, sys; r = requests.get(sys.argv[1], timeout=20); print(r.text); r.raise_for_status()' "$0"`},
	{"urllib", boxtest.Python, `python3 -c 'import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())' "$0"`},
	{"fetch", boxtest.Node, `node -e 'fetch(process.argv[1]).then(async r => { console.log(await r.text()); process.exitCode = r.ok ? 0 : 1 }, e => { console.error(e.cause || e); process.exitCode = 1 })' "$0"`},
	{"wget", boxtest.Node, `wget -q -O - "$0"`}, // that of busybox: http only
}

func TestClients(t *testing.T) {
	for _, image := range []string{boxtest.Dev, boxtest.Python, boxtest.Node} {
		_, b := online(t, image)
		for _, c := range clients {
			if c.image == image {
				t.Run(c.name, func(t *testing.T) { c.reach(t, b); c.refused(t, b) })
			}
		}
	}
}

func (c client) fetch(t *testing.T, b *boxlite.Box, url string) (string, error) {
	t.Helper()
	out, err := b.Command(t.Context(), "sh", "-c", c.script, url).CombinedOutput()
	return string(out), err
}

// reach fetches what is allowed, over both families, with and without TLS.
func (c client) reach(t *testing.T, b *boxlite.Box) {
	t.Helper()
	for _, tt := range []struct{ url, want string }{
		{"http://allowed.test/p", "host=allowed.test at="},
		{"http://v4.allowed.test:8080/p", "at=" + netlab.Allowed4 + ":8080"},
		{"http://v6.allowed.test/p", "at=[" + netlab.Allowed6 + "]:80"},
		{"http://ALLOWED.test./p", "path=/p"},
		{"http://alias.allowed.test/p", "host=alias.allowed.test"},
		{"https://www.allowed.test/p", "host=www.allowed.test"},
		{"https://v4.allowed.test/p", "at=" + netlab.Allowed4 + ":443"},
		{"https://v6.allowed.test:8443/p", "at=[" + netlab.Allowed6 + "]:8443"},
	} {
		if c.name == "wget" && strings.HasPrefix(tt.url, "https") {
			continue
		}
		if got, err := c.fetch(t, b, tt.url); err != nil || !strings.Contains(got, tt.want) {
			t.Errorf("%s %s: got %v\n%s\nwant %q\n%s", c.name, tt.url, err, got, tt.want, netlab.Lines(netlab.Log(t, b)))
		}
	}
}

// refused fetches what is not, and finds the reason in the log.
func (c client) refused(t *testing.T, b *boxlite.Box) {
	t.Helper()
	for _, tt := range []struct {
		url    string
		about  string
		reason egress.Reason
	}{
		{"http://other.test/", "other.test", egress.ReasonNotAllowed},
		{"https://other.test/", "other.test", egress.ReasonNotAllowed},
		{"http://" + netlab.Other4 + "/", netlab.Other4, egress.ReasonNotAllowed},
		{"http://[" + netlab.Other6 + "]/", netlab.Other6, egress.ReasonNotAllowed},
		{"http://10.0.0.1/", "10.0.0.1:80", egress.ReasonPrivate},
		{"http://169.254.169.254/", "169.254.169.254:80", egress.ReasonMetadata},
		{"http://" + netlab.Allowed4 + "/", netlab.Allowed4, egress.ReasonName},
	} {
		before := len(netlab.Log(t, b))
		got, err := c.fetch(t, b, tt.url)
		if err == nil {
			t.Errorf("%s %s: got\n%s\nwant a failure", c.name, tt.url, got)
		}
		found := false
		for _, e := range netlab.Log(t, b)[before:] {
			found = found || e.Reason == tt.reason && (strings.Contains(e.Addr, tt.about) || e.Name == tt.about)
		}
		if !found {
			t.Errorf("%s %s: no event about %s with %q; the program said %s", c.name, tt.url, tt.about, tt.reason, got)
		}
	}
}

// TestRefusalsAreExplained reads the page that takes the place of a refused one.
func TestRefusalsAreExplained(t *testing.T) {
	_, b := online(t, boxtest.Dev)
	out := boxtest.Sh(t, b, `curl -sS -m 20 -w '%{http_code}' -H 'Host: other.test' http://allowed.test/`)
	if !strings.HasSuffix(out, "403") || !strings.Contains(out, string(egress.ReasonName)) {
		t.Errorf("got %q, want status 403 and %q", out, egress.ReasonName)
	}
	// A program learns of it at once where there is no page.
	for _, url := range []string{"https://other.test/", "http://10.0.0.1/"} {
		got, err := clients[0].fetch(t, b, url)
		if err == nil || strings.Contains(got, "timed out") {
			t.Errorf("%s: got %v %q, want a failure that is no timeout", url, err, got)
		}
	}
}

// TestGit clones and pushes over https.
func TestGit(t *testing.T) {
	lab, b := online(t, boxtest.Dev)
	dir := t.TempDir()
	for _, args := range [][]string{
		{"init", "-q", "--bare", "-b", "main", filepath.Join(dir, "repo.git")},
		{"-C", filepath.Join(dir, "repo.git"), "config", "http.receivepack", "true"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args, err, out)
		}
	}
	lab.ServeGit(t, dir)
	for _, host := range []string{"allowed.test", "v4.allowed.test", "v6.allowed.test"} {
		got := boxtest.Sh(t, b, fmt.Sprintf(`set -e; rm -rf w c; git clone -q https://%[1]s/git/repo.git w 2>/dev/null; cd w
			git config user.email a@b; git config user.name n; git checkout -q -B main; echo %[1]s >>f; head -c 3000000 /dev/urandom >%[1]s; git add .; git commit -qm %[1]s; git push -q origin main
			cd ..; git clone -q https://%[1]s/git/repo.git c; git -C c log -1 --format=%%s; cmp w/%[1]s c/%[1]s`, host))
		if got != host+"\n" {
			t.Errorf("%s: got %q, want the commit that was pushed", host, got)
		}
	}
	out, err := b.Command(t.Context(), "git", "clone", "-q", "https://other.test/git/repo.git", "x").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "other.test") {
		t.Errorf("from a host that is not allowed: got %v %q, want a failure", err, out)
	}
}

// TestPip installs from an index over https.
func TestPip(t *testing.T) {
	lab, b := online(t, boxtest.Python)
	dir := t.TempDir()
	const file = "hello-1.0-py3-none-any.whl"
	if err := os.MkdirAll(filepath.Join(dir, "simple", "hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"simple/index.html":       `<!DOCTYPE html><a href="hello/">hello</a>`,
		"simple/hello/index.html": `<!DOCTYPE html><a href="../../` + file + `">` + file + `</a>`,
		file:                      string(wheel(t)),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lab.ServeDir(t, "pypi", dir)
	install := func(host string) (string, error) {
		out, err := b.Command(t.Context(), "sh", "-c", `rm -rf /to; pip install -q --no-cache-dir --retries 0 --timeout 20 --target /to --index-url https://$0/files/pypi/simple/ hello && PYTHONPATH=/to python -c 'import hello; print(hello.answer)'`, host).CombinedOutput()
		return string(out), err
	}
	for _, host := range []string{"allowed.test", "v6.allowed.test"} {
		if got, err := install(host); err != nil || !strings.HasSuffix(got, "42\n") {
			t.Errorf("%s: got %v\n%s\nwant 42", host, err, got)
		}
	}
	if got, err := install("other.test"); err == nil {
		t.Errorf("from a host that is not allowed: got\n%s\nwant a failure", got)
	}
}
