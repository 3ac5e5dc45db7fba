package real

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// vault is a TLS server that wants a secret and says it back.
type vault struct {
	port string

	mu   sync.Mutex
	seen []string // Authorization of each request
}

// newVault serves as the host alias, with a certificate of an authority that
// boxes started by this test are verified by.
func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		v.mu.Lock()
		v.seen = append(v.seen, r.Header.Get("Authorization"))
		v.mu.Unlock()
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		fmt.Fprintf(w, "you said %s and %s", r.Header.Get("Authorization"), body)
	}))
	cert, root := certificate(t, alias)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	s.StartTLS()
	t.Cleanup(s.Close)
	v.port = portOf(t, s.Listener.Addr())
	file := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(file, root, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", file)
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	return v
}

// last is what the server was last sent.
func (v *vault) last() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.seen) == 0 {
		return "nothing"
	}
	return v.seen[len(v.seen)-1]
}

// certificate makes one for a name, and the authority that signed it, in PEM.
func certificate(t *testing.T, name string) (tls.Certificate, []byte) {
	t.Helper()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	template := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
	}
	rootKey, leafKey := key(), key()
	root, leaf := template(1, "authority of a test"), template(2, name)
	root.IsCA, root.BasicConstraintsValid, root.KeyUsage = true, true, x509.KeyUsageCertSign
	leaf.DNSNames, leaf.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, leafKey.Public(), rootKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})
}

// TestSecret has programs use a secret they never see.
func TestSecret(t *testing.T) {
	const value = "sk-live-0123456789abcdef"
	const placeholder = "<BOXLITE_SECRET:token>"
	v := newVault(t)
	for _, tt := range []struct {
		image, what, program string
	}{
		{boxtest.Python, "urllib", `python - <<'E'
import os, urllib.request
r = urllib.request.Request("https://` + alias + `:PORT/", b"body", {"Authorization": "Bearer " + os.environ["BOXLITE_SECRET_TOKEN"]})
with urllib.request.urlopen(r, timeout=20) as f: print(f.headers["X-Echo"], f.read().decode())
E`},
		{boxtest.Dev, "curl", `curl -sS -m 20 -H "Authorization: Bearer $BOXLITE_SECRET_TOKEN" -w '%header{x-echo}' -d body https://` + alias + `:PORT/`},
		{boxtest.Node, "fetch", `node -e '
fetch("https://` + alias + `:PORT/", {method: "POST", body: "body", headers: {authorization: "Bearer " + process.env.BOXLITE_SECRET_TOKEN}})
  .then(async r => console.log(r.headers.get("x-echo"), await r.text()))'`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			rt, home := boxtest.New(t, tt.image)
			b := boxtest.Box(t, rt, boxlite.BoxOptions{
				Image: tt.image, Network: allowing(alias + ":" + v.port), MemoryMiB: 1024,
				Secrets: []boxlite.Secret{{Name: "token", Value: value, Hosts: []string{alias}}},
			})
			got := boxtest.Sh(t, b, strings.ReplaceAll(tt.program, "PORT", v.port))
			if want := "Bearer " + value; v.last() != want {
				t.Errorf("server: got %q, want %q", v.last(), want)
			}
			if strings.Contains(got, value) || strings.Count(got, placeholder) != 2 || !strings.Contains(got, "and body") {
				t.Errorf("box: got %q, want the answer with the placeholder in it, twice", got)
			}
			searchBox(t, b, value)
			if err := b.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			searchHome(t, home, value)
		})
	}
}

// searchBox looks for a value in everything that root of the box can read:
// files, and environments and memory of processes.
func searchBox(t *testing.T, b *boxlite.Box, value string) {
	t.Helper()
	// Written so that the search does not find itself.
	half := len(value) / 2
	script := fmt.Sprintf(`
a=%q; b=%q
for p in /proc/[0-9]*; do
  for f in environ cmdline; do cat $p/$f 2>/dev/null | tr '\0' '\n' | grep -q "$a""$b" && echo $p/$f; done
done
for d in /etc /root /tmp /usr/local /var /home /run /dev/shm; do
  [ -d $d ] && grep -rl "$a""$b" $d 2>/dev/null
done
echo searched`, value[:half], value[half:])
	if got, want := boxtest.Sh(t, b, script), "searched\n"; got != want {
		t.Errorf("the value is in the box: %s", got)
	}
}

// searchHome looks for a value in all that is stored.
func searchHome(t *testing.T, home, value string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(home), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "/images/") {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), value) {
			t.Errorf("%s has the value", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSecretInMemory reads the memory of a program that has just used the
// secret and was told it back.
func TestSecretInMemory(t *testing.T) {
	const value = "sk-live-0123456789abcdef"
	v := newVault(t)
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		Image: boxtest.Python, Network: allowing(alias + ":" + v.port),
		Secrets: []boxlite.Secret{{Name: "token", Value: value, Hosts: []string{alias}}},
	})
	out, err := b.Command(t.Context(), "python", "-c", `
import os, re, urllib.request
r = urllib.request.Request("https://`+alias+`:`+v.port+`/", headers={"Authorization": "Bearer " + os.environ["BOXLITE_SECRET_TOKEN"]})
answer = urllib.request.urlopen(r, timeout=20).read()
def count(word, rest):
    n = 0
    mem = open("/proc/self/mem", "rb", 0)
    for line in open("/proc/self/maps"):
        m = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
        if not m or "[v" in line: continue
        low, high = (int(x, 16) for x in m.groups())
        try:
            mem.seek(low); data = mem.read(min(high - low, 64 << 20))
        except OSError: continue
        at = data.find(word)
        while at >= 0:
            n += data[at + len(word):at + len(word) + len(rest)] == rest
            at = data.find(word, at + 1)
    return n
# In halves, so that the search does not find what it looks for.
print(count(b"you said Bear", b"er <BOXLITE") > 0, count(b"`+value[:len(value)/2]+`", b"`+value[len(value)/2:]+`"))`).CombinedOutput()
	if want := "True 0\n"; err != nil || string(out) != want {
		t.Errorf("the answer is found, the value is not: got %q, %v, want %q", out, err, want)
	}
	if want := "Bearer " + value; v.last() != want {
		t.Errorf("server: got %q, want %q", v.last(), want)
	}
}

// TestSecretStaysWhereItIsFor sends the placeholder to a host without the
// secret, and over http.
func TestSecretStaysWhereItIsFor(t *testing.T) {
	const value = "sk-live-0123456789abcdef"
	v := newVault(t)
	rt, _ := boxtest.New(t, boxtest.Python)
	var plain string
	var mu sync.Mutex
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		plain = r.Header.Get("Authorization")
	}))
	defer s.Close()
	port := portOf(t, s.Listener.Addr())
	for name, tt := range map[string]struct{ url, secretFor string }{
		"http":         {"http://" + alias + ":" + port, alias},
		"another host": {"https://" + alias + ":" + v.port, "api.example.com"},
	} {
		b := boxtest.Box(t, rt, boxlite.BoxOptions{
			Image: boxtest.Python, Network: allowing(alias+":"+port, alias+":"+v.port),
			Secrets: []boxlite.Secret{{Name: "token", Value: value, Hosts: []string{tt.secretFor}}},
		})
		boxtest.Sh(t, b, `python -c '
import os, ssl, urllib.request
r = urllib.request.Request("`+tt.url+`", headers={"Authorization": "Bearer " + os.environ["BOXLITE_SECRET_TOKEN"]})
urllib.request.urlopen(r, timeout=20, context=ssl._create_unverified_context()).read()'`)
		mu.Lock()
		got := plain
		mu.Unlock()
		if tt.secretFor != alias {
			got = v.last()
		}
		if want := "Bearer <BOXLITE_SECRET:token>"; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// TestSecretHostsAreVerified does not give a secret to a server that cannot
// prove its name.
func TestSecretHostsAreVerified(t *testing.T) {
	v := newVault(t)
	t.Setenv("SSL_CERT_FILE", os.DevNull) // the authority is not known to the box's owner
	rt, _ := boxtest.New(t, boxtest.Python)
	b := boxtest.Box(t, rt, boxlite.BoxOptions{
		Image: boxtest.Python, Network: egress.Policy{Allow: []egress.Rule{egress.MustParse(alias + ":" + v.port)}},
		Secrets: []boxlite.Secret{{Name: "token", Value: "0123456789", Hosts: []string{alias}}},
	})
	got := boxtest.Sh(t, b, `python -c '
import os, urllib.request
r = urllib.request.Request("https://`+alias+`:`+v.port+`", headers={"Authorization": os.environ["BOXLITE_SECRET_TOKEN"]})
try: print(urllib.request.urlopen(r, timeout=20).status)
except Exception as e: print("refused")'`)
	if want := "refused\n"; got != want || v.last() != "nothing" {
		t.Errorf("got %q, and the server %q, want it refused and nothing sent", got, v.last())
	}
}
