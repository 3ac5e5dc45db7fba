package image

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestHostileRegistriesAreRefused(t *testing.T) {
	h := newHub(t)
	img := simple(t, "a", 50_000)
	h.push(t, "a:1", img)
	body := func(b string) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { io.WriteString(w, b) }
	}
	manifest := func(format string, args ...any) func(http.ResponseWriter, *http.Request, http.Handler) {
		return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			fmt.Fprintf(w, format, args...)
		}
	}
	const config = `"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:` + "%[1]s" + `","size":2}`
	zeros := strings.Repeat("0", 64)
	for _, tt := range []struct {
		name   string
		at     func(*http.Request) bool
		answer func(http.ResponseWriter, *http.Request, http.Handler)
		want   error // nil: any
	}{
		{"wrong bytes", blobGet, body(strings.Repeat("x", 50_000)), ErrDigest},
		{"short blobs", blobGet, body("x"), ErrUnreachable},
		{"endless blobs", blobGet, func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			b := make([]byte, 1<<16)
			for r.Context().Err() == nil {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}, ErrDigest},
		{"endless manifest", manifestGet, body(strings.Repeat(" ", maxManifest+10)), ErrHostile},
		{"no JSON", manifestGet, manifest("hello"), nil},
		{"path as digest", manifestGet, manifest(`{"schemaVersion":2,`+config+`,"layers":[]}`, "../../../../etc/passwd"), nil},
		{"negative size", manifestGet, manifest(`{"schemaVersion":2,`+config+`,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%[1]s","size":-1}]}`, zeros), ErrHostile},
		{"gigantic", manifestGet, manifest(`{"schemaVersion":2,`+config+`,"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%[1]s","size":9000000000000000000},{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%[1]s","size":9000000000000000000}]}`, zeros), ErrHostile},
		{"too many layers", manifestGet, manifest(`{"schemaVersion":2,`+config+`,"layers":[`+strings.TrimSuffix(strings.Repeat(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:%[1]s","size":1},`, 300), ",")+`]}`, zeros), ErrHostile},
		{"not an image", manifestGet, manifest(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"sha256:%s","size":2},"layers":[]}`, zeros), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.misbehave(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if tt.at(r) {
					tt.answer(w, r, next)
				}
				return tt.at(r)
			})
			s := testStore(t, linux(Config{}))
			_, err := s.Pull(t.Context(), h.host+"/a:1", PullOptions{})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("pull: got %v, want %v", err, tt.want)
			}
			if images, _ := s.Images(t.Context()); len(images) != 0 {
				t.Errorf("images: got %s, want none", refs(images))
			}
			mustBeWhole(t, s)
		})
	}
}

func TestHostileLayersAreRefusedByEntry(t *testing.T) {
	h := newHub(t)
	s := testStore(t, linux(Config{MaxSize: 1 << 20, MaxEntries: 50}))
	for _, tt := range []struct {
		name  string
		layer []byte
		entry string
	}{
		{"dotdot", content(t, "../../evil", "x"), "../../evil"},
		{"absolute", content(t, "/etc/evil", "x"), "/etc/evil"},
		{"bomb", content(t, "bomb", strings.Repeat("\x00", 2<<20)), "bomb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.push(t, "evil:1", imageOf(t, layerOf(t, zip(t, tt.layer), types.OCILayer)))
			_, err := s.Pull(t.Context(), h.host+"/evil:1", PullOptions{})
			if !errors.Is(err, ErrHostile) || !strings.Contains(err.Error(), tt.entry) {
				t.Errorf("pull: got %v, want ErrHostile that names %q", err, tt.entry)
			}
			if got := leftovers(t, s); got != nil {
				t.Errorf("left in tmp: %v", got)
			}
		})
	}
}

func TestLayerMustUnpackToWhatTheConfigurationSays(t *testing.T) {
	h := newHub(t)
	img := simple(t, "a", 10)
	cf, _ := img.ConfigFile()
	cf = cf.DeepCopy()
	slices.Reverse(cf.RootFS.DiffIDs)
	img, err := mutate.ConfigFile(img, cf)
	if err != nil {
		t.Fatal(err)
	}
	h.push(t, "a:1", img)
	s := testStore(t, linux(Config{}))
	if _, err := s.Pull(t.Context(), h.host+"/a:1", PullOptions{}); !errors.Is(err, ErrDigest) {
		t.Errorf("pull: got %v, want ErrDigest", err)
	}
	if e, _ := os.ReadDir(s.path("rootfs")); len(e) != 0 {
		t.Errorf("root file systems: got %d, want none", len(e))
	}
}

func TestCredentials(t *testing.T) {
	h := newHub(t)
	h.push(t, "private:1", simple(t, "p", 10))
	var issuer string
	challenge := func(scheme string) { // asks everybody for a login, in that scheme
		h.misbehave(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			user, pass, basic := r.BasicAuth()
			if r.URL.Path == "/token" {
				if user != "me" || pass != "secret" || !strings.Contains(r.URL.Query().Get("scope"), "private:pull") {
					w.WriteHeader(http.StatusUnauthorized)
				} else {
					io.WriteString(w, `{"token":"t0k"}`)
				}
				return true
			}
			ok := scheme == "Basic" && basic && user == "me" && pass == "secret" || scheme == "Bearer" && r.Header.Get("Authorization") == "Bearer t0k"
			if !ok {
				w.Header().Set("WWW-Authenticate", scheme+` realm="`+issuer+`",service="s"`)
				w.WriteHeader(http.StatusUnauthorized)
			}
			return !ok
		})
	}
	issuer = h.URL + "/token"
	for _, tt := range []struct {
		name, scheme string
		how          Registry
		ok           bool
	}{
		{"basic", "Basic", Registry{Username: "me", Password: "secret"}, true},
		{"basic wrong", "Basic", Registry{Username: "me", Password: "guess"}, false},
		{"basic missing", "Basic", Registry{}, false},
		{"bearer", "Bearer", Registry{Username: "me", Password: "secret"}, true},
		{"bearer wrong", "Bearer", Registry{Username: "me", Password: "guess"}, false},
		{"bearer missing", "Bearer", Registry{}, false},
		{"token", "Bearer", Registry{Token: "t0k"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			challenge(tt.scheme)
			tt.how.Host = h.host
			_, err := testStore(t, linux(Config{Registries: []Registry{tt.how}})).Pull(t.Context(), h.host+"/private:1", PullOptions{})
			if tt.ok && err != nil || !tt.ok && !errors.Is(err, ErrUnauthorized) {
				t.Errorf("pull: got %v, want success %v", err, tt.ok)
			}
			if err != nil && strings.Contains(err.Error(), "guess") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}

func TestCredentialsOfDockersConfigurationFile(t *testing.T) {
	h := newHub(t)
	h.push(t, "private:1", simple(t, "p", 10))
	h.misbehave(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		user, pass, _ := r.BasicAuth()
		ok := user == "me" && pass == "secret"
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
		return !ok
	})
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	config := `{"auths":{"` + h.host + `":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("me:secret")) + `"}}}`
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(linux(Config{Dir: t.TempDir()}))
	if err != nil {
		t.Fatal(err)
	}
	mustPull(t, s, h.host+"/private:1")
}

func TestCertificates(t *testing.T) {
	h := newHub(t)
	h.push(t, "a:1", simple(t, "a", 10))
	secure := httptest.NewUnstartedServer(h.handler)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	host := strings.TrimPrefix(secure.URL, "https://")
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		how  Registry
		ok   bool
	}{
		{"unknown authority", Registry{}, false},
		{"given authority", Registry{CAFile: ca}, true},
		{"not verified", Registry{SkipVerify: true}, true},
		{"file without certificates", Registry{CAFile: os.Args[0]}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.how.Host = host
			_, err := testStore(t, linux(Config{Registries: []Registry{tt.how}})).Pull(t.Context(), host+"/a:1", PullOptions{})
			if (err == nil) != tt.ok {
				t.Errorf("pull: got %v, want success %v", err, tt.ok)
			}
			if err != nil && !strings.Contains(err.Error(), "certificate") {
				t.Errorf("pull: %v does not speak of certificates", err)
			}
		})
	}
}

func TestPlainHTTPOnlyWhereAllowed(t *testing.T) {
	g := &guard{inner: http.DefaultTransport, host: "10.0.0.1:5000"}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://10.0.0.1:5000/v2/", nil)
	resp, err := g.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, errPlain) {
		t.Errorf("http to a private address: got %v, want it refused", err)
	}
	for host, want := range map[string]bool{"localhost:5000": true, "127.0.0.1": true, "[::1]:5000": true, "10.0.0.1:5000": false, "localhost.evil.example": false} {
		if got := loopback(host); got != want {
			t.Errorf("loopback(%q): got %v, want %v", host, got, want)
		}
	}
}
