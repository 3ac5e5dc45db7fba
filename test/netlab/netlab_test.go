package netlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// TestEveryAddressAnswers is what makes the refusals that other tests see mean
// something.
func TestEveryAddressAnswers(t *testing.T) {
	lab := Need(t)
	for _, addr := range []string{
		Allowed4, Other4, "10.1.2.3", "172.16.5.5", "192.168.77.7", "100.64.1.1", "100.100.100.200", "169.254.169.254",
		"168.63.129.16", "192.0.0.192", "198.18.0.1", Allowed6, Other6, "fd00:ec2::254", "fd12:3456::1",
		"64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "2001:0:a00:1::5601:5601", "64:ff9b:1::1", "::ffff:0:a9fe:a9fe",
	} {
		host := addr
		if strings.Contains(addr, ":") {
			host = "[" + addr + "]"
		}
		for _, url := range []string{"http://" + host + "/x", "http://" + host + ":8080/x", "https://" + host + "/x"} {
			got, err := lab.Get(t.Context(), url)
			if want := "at=" + host + ":"; err != nil || !strings.Contains(got, want) {
				t.Errorf("%s: got %q, %v, want %q in it", url, got, err, want)
			}
		}
	}
	if n := lab.Seen(t).Hits["tcp 169.254.169.254:80"]; n == 0 {
		t.Error("connections to the metadata address: got 0, want those that this test made")
	}
}

func TestNames(t *testing.T) {
	lab := Need(t)
	lab.SetDNS(t,
		Record{Name: "flip.test", Addrs: []string{Allowed4}},
		Record{Name: "flip.test", Addrs: []string{"10.1.2.3"}, Then: true},
	)
	for _, want := range []string{Allowed4, "10.1.2.3", "10.1.2.3"} {
		addrs, err := lab.dialer().Resolver.LookupIP(t.Context(), "ip4", "flip.test")
		if err != nil || len(addrs) != 1 || addrs[0].String() != want {
			t.Errorf("flip.test: got %v, %v, want %s", addrs, err, want)
		}
	}
	got, err := lab.Get(t.Context(), "https://alias.allowed.test/p")
	if want := "host=alias.allowed.test at="; err != nil || !strings.Contains(got, want) {
		t.Errorf("got %q, %v, want %q in it", got, err, want)
	}
	if _, err := lab.Get(t.Context(), "http://none.test/"); err == nil {
		t.Error("a name that nobody has: got no error")
	}
	if q := strings.Join(lab.Seen(t).Questions, " "); !strings.Contains(q, "none.test. A") {
		t.Errorf("questions: got %s, want none.test among them", q)
	}
}

func TestDatagramsAndBanners(t *testing.T) {
	lab := Need(t)
	for _, addr := range datagrams {
		if got, err := exchange(t.Context(), "udp", addr, "ping"); err != nil || got != "ping" {
			t.Errorf("udp %s: got %q, %v, want an echo", addr, got, err)
		}
		if lab.Seen(t).Hits["udp "+addr] == 0 {
			t.Errorf("udp %s: nothing was seen", addr)
		}
	}
	if got, err := exchange(t.Context(), "tcp", Allowed4+":22", ""); err != nil || !strings.HasPrefix(got, "SSH-2.0") {
		t.Errorf("got %q, %v, want a banner", got, err)
	}
	if got, err := exchange(t.Context(), "tcp", "10.9.9.9:7", "echo"); err != nil || got != "echo" {
		t.Errorf("got %q, %v, want an echo", got, err)
	}
}

func exchange(ctx context.Context, network, addr, say string) (string, error) {
	c, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(c, say)
	buf := make([]byte, 100)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

// TestTheMachineIsElsewhere promises that tests cannot reach the real network.
func TestTheMachineIsElsewhere(t *testing.T) {
	Need(t)
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		if i.Name != "lo" && i.Name != wireHere {
			t.Errorf("interface %s: got one of the machine, want lo and %s", i.Name, wireHere)
		}
	}
}

// TestGitServer pushes and clones with the git of this machine.
func TestGitServer(t *testing.T) {
	lab := Need(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, lab.CA(), 0o644); err != nil {
		t.Fatal(err)
	}
	lab.ServeGit(t, dir)
	for _, script := range []string{
		`git init -q --bare -b main repo.git && git -C repo.git config http.receivepack true`,
		`git clone -q https://allowed.test/git/repo.git w && cd w && git commit -q --allow-empty -m one && git push -q origin HEAD:main`,
		`git clone -q https://allowed.test/git/repo.git c && git -C c log --format=%s | grep -x one`,
	} {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_SSL_CAINFO="+ca,
			"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=http.curloptResolve", "GIT_CONFIG_VALUE_0=allowed.test:443:"+Allowed4,
			"GIT_CONFIG_KEY_1=user.name", "GIT_CONFIG_VALUE_1=n", "GIT_CONFIG_KEY_2=user.email", "GIT_CONFIG_VALUE_2=a@b")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
}
