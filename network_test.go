package boxlite_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/egress"
)

func TestParsePort(t *testing.T) {
	for in, want := range map[string]boxlite.Port{
		"80":                    {BoxPort: 80},
		"8080:80":               {HostPort: 8080, BoxPort: 80},
		"8080:80/tcp":           {HostPort: 8080, BoxPort: 80, Proto: "tcp"},
		"0:80/UDP":              {BoxPort: 80, Proto: "udp"},
		"0.0.0.0:8080:80":       {HostIP: "0.0.0.0", HostPort: 8080, BoxPort: 80},
		"127.0.0.1::80":         {HostIP: "127.0.0.1", BoxPort: 80},
		"127.0.0.1:80":          {HostIP: "127.0.0.1", BoxPort: 80},
		"[::1]:8080:80/udp":     {HostIP: "::1", HostPort: 8080, BoxPort: 80, Proto: "udp"},
		"[::]::443":             {HostIP: "::", BoxPort: 443},
		"[fd00::1]:1:65535":     {HostIP: "fd00::1", HostPort: 1, BoxPort: 65535},
		"192.168.0.1:53:53/udp": {HostIP: "192.168.0.1", HostPort: 53, BoxPort: 53, Proto: "udp"},
	} {
		got, err := boxlite.ParsePort(in)
		if err != nil || got != want {
			t.Errorf("ParsePort(%q): got %+v, %v, want %+v", in, got, err, want)
		}
		again, err := boxlite.ParsePort(got.String())
		if again.Proto = got.Proto; err != nil || again != got {
			t.Errorf("ParsePort of %q: got %+v, %v, want %+v", got.String(), again, err, got)
		}
	}
	for in, part := range map[string]string{
		"":                 "is not a port",
		"x":                `"x"`,
		"80:":              `""`,
		":80:80":           "no address",
		"80/":              "want tcp or udp",
		"80/icmp":          `"icmp"`,
		"65536":            `"65536"`,
		"-1":               `"-1"`,
		"0":                "1 to 65535",
		"8080:0":           "1 to 65535",
		"localhost:80:80":  `"localhost"`,
		"::1:80:80":        "no address",
		"1:2:3:4":          "want [HOST_IP:]",
		"[::1:80":          "[IPV6]",
		"[1.2.3.4]:80:80":  "[IPV6]",
		"[fe80::1%lo]:1:1": "zone",
		"1.2.3.400:80:80":  "1.2.3.400",
	} {
		_, err := boxlite.ParsePort(in)
		if !errors.Is(err, boxlite.ErrInvalid) || !strings.Contains(err.Error(), part) || !strings.Contains(err.Error(), fmt.Sprintf("%q", in)) {
			t.Errorf("ParsePort(%q): got %v, want ErrInvalid that names it and says %s", in, err, part)
		}
	}
}

// TestBadNetworks says what contradicts itself, before a box is made.
func TestBadNetworks(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	disabled := egress.Policy{Mode: egress.Disabled}
	secret := boxlite.Secret{Name: "key", Value: "0123456789", Hosts: []string{"api.example.com"}}
	spoilt := func(f func(*boxlite.Secret)) []boxlite.Secret {
		s := secret
		f(&s)
		return []boxlite.Secret{s}
	}
	for want, o := range map[string]boxlite.BoxOptions{
		`mode "open"`:                     {Network: egress.Policy{Mode: "open"}},
		"published ports in a box":        {Network: disabled, Ports: []boxlite.Port{{BoxPort: 80}}},
		"secrets in a box":                {Network: disabled, Secrets: []boxlite.Secret{secret}},
		"rules in a box":                  {Network: egress.Policy{Mode: egress.AllowList}, Security: boxlite.SecurityOptions{NetworkDisabled: true}},
		"ports in a box whose network is": {Ports: []boxlite.Port{{BoxPort: 80}}, Security: boxlite.SecurityOptions{NetworkDisabled: true}},
		"have the same port of the host":  {Ports: []boxlite.Port{{HostPort: 8080, BoxPort: 80}, {HostIP: "127.0.0.1", HostPort: 8080, BoxPort: 81, Proto: "tcp"}}},
		`protocol "sctp"`:                 {Ports: []boxlite.Port{{BoxPort: 80, Proto: "sctp"}}},
		`host address "localhost"`:        {Ports: []boxlite.Port{{BoxPort: 80, HostIP: "localhost"}}},
		"no port of the box":              {Ports: []boxlite.Port{{HostPort: 80}}},
		"257 published ports":             {Ports: make([]boxlite.Port, 257)},
		"name it with letters":            {Secrets: spoilt(func(s *boxlite.Secret) { s.Name = "a b" })},
		"no hosts":                        {Secrets: spoilt(func(s *boxlite.Secret) { s.Hosts = nil })},
		`host "a b"`:                      {Secrets: spoilt(func(s *boxlite.Secret) { s.Hosts = []string{"a b"} })},
		`host "example.com:443"`:          {Secrets: spoilt(func(s *boxlite.Secret) { s.Hosts = []string{"example.com:443"} })},
		"a value of 3 bytes":              {Secrets: spoilt(func(s *boxlite.Secret) { s.Value = "abc" })},
		"without line ends":               {Secrets: spoilt(func(s *boxlite.Secret) { s.Value = "0123456789\n" })},
		`placeholder "x"`:                 {Secrets: spoilt(func(s *boxlite.Secret) { s.Placeholder = "x" })},
		"the same variable":               {Secrets: append(spoilt(func(s *boxlite.Secret) { s.Name = "KEY" }), secret)},
		"is part of that of":              {Secrets: append(spoilt(func(s *boxlite.Secret) { s.Name, s.Placeholder = "other", "xx<BOXLITE_SECRET:key>" }), secret)},
	} {
		_, err := rt.Create(t.Context(), o)
		if !errors.Is(err, boxlite.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrInvalid that says %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), secret.Value) {
			t.Errorf("error %q has the value of the secret", err)
		}
	}
	if _, err := boxlite.Open(t.Context(), boxlite.Config{Home: t.TempDir(), Engine: testEngine(), Resolver: "dns.example.com"}); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("resolver by name: got %v, want ErrInvalid", err)
	}
}

// TestSecretValuesAreNotStored looks for a value wherever boxlite writes, and
// in all it prints.
func TestSecretValuesAreNotStored(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	const value = "the-value-of-the-secret"
	secret := boxlite.Secret{Name: "api-key", Value: value, Hosts: []string{"API.Example.com"}}
	b := newBox(t, rt, boxlite.BoxOptions{Name: "keeper", Secrets: []boxlite.Secret{secret}})
	env := sh(t, b, "env")
	for _, want := range []string{
		"BOXLITE_SECRET_API_KEY=<BOXLITE_SECRET:api-key>\n", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n",
		"REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=", "GIT_SSL_CAINFO=", "PIP_CERT=",
		"NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/boxlite.crt\n",
	} {
		if !strings.Contains(env, want) {
			t.Errorf("environment: got\n%swant %q", env, want)
		}
	}
	info, err := b.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	shown, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{env, string(shown), fmt.Sprintf("%v %+v %#v %s", secret, secret, secret, secret), fmt.Sprintf("%+v", info)} {
		if strings.Contains(text, value) {
			t.Errorf("%s\nhas the value of the secret", text)
		}
	}
	if got, want := info.Options.Secrets[0].Hosts[0], "api.example.com"; got != want {
		t.Errorf("host: got %q, want %q", got, want)
	}
	for range 2 { // while it runs, and when it has been saved
		wantNowhere(t, home(t, rt), value)
		if err := b.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantNowhere reads all files below a directory.
func wantNowhere(t *testing.T, dir, value string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what a box is just removing, and its sockets
		}
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(value)) {
			t.Errorf("%s has the value of the secret", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSecretWithoutValue(t *testing.T) {
	hereOnly(t, "a server keeps the values of secrets that it was given, until it ends")
	t.Parallel()
	rt := newRuntime(t)
	newBox(t, rt, boxlite.BoxOptions{Name: "keeper", Secrets: []boxlite.Secret{{Name: "key", Value: "0123456789", Hosts: []string{"example.com"}}}})
	b, err := rt.Box(t.Context(), "keeper")
	if err != nil {
		t.Fatal(err)
	}
	err = b.Start(t.Context())
	if !errors.Is(err, boxlite.ErrState) || !strings.Contains(err.Error(), `secret "key"`) || !strings.Contains(err.Error(), "SetSecret") {
		t.Errorf("Start without a value: got %v, want ErrState that names the secret and SetSecret", err)
	}
	if err := b.SetSecret("other", "0123456789"); !errors.Is(err, boxlite.ErrNotFound) {
		t.Errorf("SetSecret of another: got %v, want ErrNotFound", err)
	}
	if err := b.SetSecret("key", "short"); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("SetSecret of a short value: got %v, want ErrInvalid", err)
	}
	if err := b.SetSecret("key", "9876543210"); err != nil {
		t.Fatal(err)
	}
	sh(t, b, "true")
}

// listenLow listens at a port below those that the kernel gives to connections,
// so that nobody has it by chance when it is free again.
func listenLow(t *testing.T) net.Listener {
	t.Helper()
	for range 100 {
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 20000+rand.N(10000))); err == nil {
			t.Cleanup(func() { ln.Close() })
			return ln
		}
	}
	t.Fatal("of a hundred ports between 20000 and 30000 none is free")
	return nil
}

// TestPortIsTaken has a clear error before anything of the box starts.
func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	ln := listenLow(t)
	taken := uint16(ln.Addr().(*net.TCPAddr).Port)
	b := newBox(t, rt, boxlite.BoxOptions{Ports: []boxlite.Port{{BoxPort: 1}, {HostPort: taken, BoxPort: 80}}})
	err := b.Start(t.Context())
	if !errors.Is(err, boxlite.ErrExists) || !strings.Contains(err.Error(), ln.Addr().String()) || !strings.Contains(err.Error(), "give another") {
		t.Errorf("Start: got %v, want ErrExists that names %s and what to do", err, ln.Addr())
	}
	if info, err := b.Info(t.Context()); err != nil || len(info.Ports) != 0 || info.State != boxlite.StateFailed {
		t.Errorf("after it: got %s with ports %v, %v, want failed without any", info.State, info.Ports, err)
	}
	ln.Close()
	for err = b.Start(t.Context()); errors.Is(err, boxlite.ErrExists); err = b.Start(t.Context()) {
		// A process that is just being started has the listener until its exec.
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := b.Info(t.Context())
	if err != nil || len(info.Ports) != 2 {
		t.Fatalf("ports of the running box: got %v, %v, want 2", info.Ports, err)
	}
	if p := info.Ports[1]; p.HostPort != taken || p.HostIP != "127.0.0.1" || p.BoxPort != 80 || p.Proto != "tcp" {
		t.Errorf("port: got %+v, want 127.0.0.1:%d:80/tcp", p, taken)
	}
	if p := info.Ports[0]; p.HostPort == 0 {
		t.Errorf("chosen port: got %+v, want it told", p)
	}
	if _, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", info.Ports[0].HostPort)); err == nil {
		t.Error("listen on a published port: got nil, want an error")
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := b.Info(t.Context()); err != nil || len(info.Ports) != 0 {
		t.Errorf("ports of the stopped box: got %v, %v, want none", info.Ports, err)
	}
	again, err := net.Listen("tcp", ln.Addr().String())
	if err != nil {
		t.Fatalf("listen on the port of a stopped box: got %v, want nil", err)
	}
	again.Close()
}

func TestSetNetwork(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{Name: "set"})
	list := egress.Policy{Mode: egress.AllowList, Allow: []egress.Rule{egress.MustParse("*.example.com:443")}}
	for _, running := range []bool{false, true} {
		if running {
			sh(t, b, "true")
		}
		for _, p := range []egress.Policy{list, {}} {
			if err := b.SetNetwork(t.Context(), p); err != nil {
				t.Fatalf("running %v: %v", running, err)
			}
			info, err := b.Info(t.Context())
			if got := info.Options.Network; err != nil || got.Mode != p.Mode || !slices.Equal(got.Allow, p.Allow) {
				t.Errorf("running %v: got %+v, %v, want %+v", running, got, err, p)
			}
		}
	}
	if err := b.SetNetwork(t.Context(), egress.Policy{Mode: egress.Disabled}); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("take the network of a running box: got %v, want ErrState", err)
	}
	if err := b.SetNetwork(t.Context(), egress.Policy{Mode: "open"}); !errors.Is(err, boxlite.ErrInvalid) {
		t.Errorf("bad mode: got %v, want ErrInvalid", err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.SetNetwork(t.Context(), egress.Policy{Mode: egress.Disabled}); err != nil {
		t.Errorf("take the network of a stopped box: got %v, want nil", err)
	}
	again, err := rt.Box(t.Context(), "set")
	if err != nil {
		t.Fatal(err)
	}
	sh(t, again, "true")
	if _, err := again.Dial("tcp", "box:80"); !errors.Is(err, boxlite.ErrUnsupported) {
		t.Errorf("Dial of a box without a network: got %v, want ErrUnsupported", err)
	}
	if err := again.SetNetwork(t.Context(), list); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("give a running box a network: got %v, want ErrState", err)
	}
}

func TestDialErrors(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{})
	if _, err := b.Dial("tcp", "box:80"); !errors.Is(err, boxlite.ErrState) {
		t.Errorf("Dial of a box that does not run: got %v, want ErrState", err)
	}
	for network, addr := range map[string]string{"tcp": "box", "udp": ":0", "tcp4": ":65536", "unix": "box:80", "tcp6": "box:http"} {
		if _, err := b.Dial(network, addr); !errors.Is(err, boxlite.ErrInvalid) {
			t.Errorf("Dial(%q, %q): got %v, want ErrInvalid", network, addr, err)
		}
	}
}

// TestNetworkLog reads a log with a line that a crash has cut, and what comes
// while it is followed.
func TestNetworkLog(t *testing.T) {
	t.Parallel()
	rt := newRuntime(t)
	b := newBox(t, rt, boxlite.BoxOptions{})
	path := filepath.Join(home(t, rt), "boxes", b.ID(), "logs", "network.jsonl")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	line := func(name string, action egress.Action) string {
		text, err := json.Marshal(egress.Event{Kind: egress.KindDNS, Name: name, Time: time.Now(), Verdict: egress.Verdict{Action: action, Rule: egress.ByDefault}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	write(path+".1", line("first", egress.Allow)+line("second", egress.Deny))
	write(path, "\x00{broken\n"+line("third", egress.Deny)+`{"kind":"dns","na`)
	names := func(ctx context.Context, o boxlite.NetworkLogOptions) (all []string) {
		t.Helper()
		for e, err := range b.NetworkLog(ctx, o) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(e.Kind)+":"+e.Name)
		}
		return all
	}
	if got, want := names(t.Context(), boxlite.NetworkLogOptions{}), []string{"dns:first", "dns:second", "dns:third"}; !slices.Equal(got, want) {
		t.Errorf("log: got %q, want %q", got, want)
	}
	if got, want := names(t.Context(), boxlite.NetworkLogOptions{Refused: true}), []string{"dns:second", "dns:third"}; !slices.Equal(got, want) {
		t.Errorf("refused: got %q, want %q", got, want)
	}
	if info, err := b.Info(t.Context()); err != nil || len(info.Refusals) != 1 || info.Refusals[0].Name != "third" {
		t.Errorf("refusals: got %+v, %v, want the last", info.Refusals, err)
	}

	sh(t, b, "true")
	changed := false
	var got []string
	for e, err := range b.NetworkLog(t.Context(), boxlite.NetworkLogOptions{Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Kind))
		if e.Kind == egress.KindPolicy {
			if err := b.Stop(t.Context()); err != nil { // which ends the log
				t.Fatal(err)
			}
		} else if !changed {
			changed = true
			if err := b.SetNetwork(t.Context(), egress.Policy{Mode: egress.AllowList}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := []string{"dns", "dns", "dns", "policy"}; !slices.Equal(got, want) {
		t.Errorf("followed: got %q, want %q", got, want)
	}
	for _, err := range b.NetworkLog(t.Context(), boxlite.NetworkLogOptions{}) {
		if err != nil {
			t.Error(err)
		}
		break // a caller may stop reading
	}
}
