package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
	"github.com/coder/websocket"
)

// authority signs certificates for 127.0.0.1 into the files of a server.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // fails on no system that tests run on
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err == nil {
		a.cert, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue writes cert.pem and key.pem.
func (a *authority) issue(serial int64, end time.Time) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write("cert.pem", "CERTIFICATE", der)
	a.write("key.pem", "EC PRIVATE KEY", private)
}

// trusting is a client's side of TLS.
func (a *authority) trusting() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool}
}

// serial is that of the certificate which the server shows.
func (a *authority) serial(url string) int64 {
	a.t.Helper()
	d := &tls.Dialer{Config: a.trusting()}
	conn, err := d.DialContext(a.t.Context(), "tcp", strings.TrimPrefix(url, "https://"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

// TestTLS: clients that trust the certificate are served, requests and sockets,
// others are not; a new certificate is taken without a restart, a bad one is
// not.
func TestTLS(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testenv.Missing(t, "curl", err.Error()+`; run "apt-get install curl"`)
	}
	_, home := boxtest.New(t, boxtest.Alpine)
	a := newAuthority(t)
	a.issue(10, time.Now().Add(time.Hour))
	p := startProcess(t, home, "--tls-cert", a.path("cert.pem"), "--tls-key", a.path("key.pem"))
	if !strings.HasPrefix(p.url, "https://") {
		t.Fatalf("the server says it is at %s", p.url)
	}
	curl := func(args ...string) (string, error) {
		args = append([]string{"-sS", "-H", "Authorization: Bearer " + apiKey}, args...)
		out, err := exec.CommandContext(t.Context(), "curl", args...).CombinedOutput()
		return string(out), err
	}
	if out, err := curl("--cacert", a.path("ca.pem"), "-d", `{"image":"alpine:latest","name":"safe"}`, p.url+"/v1/boxes"); err != nil || !strings.Contains(out, `"status":"configured"`) {
		t.Errorf("create: got %s, %v", out, err)
	}
	out, err := curl("--cacert", a.path("ca.pem"), "-d", `{"command":"echo","args":["over TLS"]}`, p.url+"/v1/boxes/safe/exec")
	_, id, _ := strings.Cut(out, `"execution_id":"`)
	id, _, _ = strings.Cut(id, `"`)
	if err != nil || id == "" {
		t.Fatalf("exec: got %s, %v", out, err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: a.trusting(), DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(t.Context(), p.url+"/v1/boxes/safe/executions/"+id+"/attach",
		&websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Authorization": {"Bearer " + apiKey}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := output(t, conn, ""); got != "over TLS\n" {
		t.Errorf("attach: got %q", got)
	}
	for _, bad := range [][]string{
		{p.url + "/v1/boxes"}, // of an authority that is not known
		{"--cacert", a.path("ca.pem"), "--tls-max", "1.1", p.url + "/v1/boxes"},
	} {
		if out, err := curl(bad...); err == nil {
			t.Errorf("%v: got %s, want a refusal", bad, out)
		}
	}
	if out, _ := curl(strings.Replace(p.url, "https:", "http:", 1) + "/v1/boxes"); strings.Contains(out, "boxes") {
		t.Errorf("without TLS: got %s", out)
	}
	a.reload(p)
	if out, err := curl("--cacert", a.path("ca.pem"), "-X", "DELETE", p.url+"/v1/boxes/safe?force=true"); err != nil || out != "" {
		t.Errorf("remove: got %s, %v", out, err)
	}
}

// reload gives a server a new certificate, then bad ones.
func (a *authority) reload(p *process) {
	t := a.t
	hup := func() {
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	a.issue(11, time.Now().Add(time.Hour))
	hup()
	boxtest.Eventually(t, 10*time.Second, "the new certificate is shown", func() bool { return a.serial(p.url) == 11 })
	a.issue(12, time.Now().Add(-time.Hour))
	hup()
	a.write("cert.pem", "CERTIFICATE", []byte("rubbish"))
	hup()
	// Signals are taken in order: when this one has been, those before have.
	a.issue(13, time.Now().Add(time.Hour))
	hup()
	boxtest.Eventually(t, 10*time.Second, "the next good certificate is shown, and none of the bad ones", func() bool {
		n := a.serial(p.url)
		if n == 12 {
			t.Error("a certificate that has ended is shown")
		}
		return n == 13
	})
}

// TestBadCertificate: what is wrong with the files is told at the start.
func TestBadCertificate(t *testing.T) {
	a := newAuthority(t)
	a.issue(10, time.Now().Add(time.Hour))
	cert, key := a.path("cert.pem"), a.path("key.pem")
	refusal(t, "no such file", "--port", "0", "--tls-cert", a.path("none.pem"), "--tls-key", key)
	refusal(t, "private key does not match", "--port", "0", "--tls-cert", a.path("ca.pem"), "--tls-key", key)
	refusal(t, "go together", "--port", "0", "--tls-cert", cert)
	refusal(t, "--tls-cert is for TCP", "--socket", a.path("s.sock"), "--tls-cert", cert, "--tls-key", key)
	a.issue(11, time.Now().Add(-time.Hour))
	refusal(t, "renew it", "--port", "0", "--tls-cert", cert, "--tls-key", key)
}
