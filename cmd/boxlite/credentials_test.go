package main

import (
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// login logs in to the server of an environment, with a profile.
func login(env []string, dir, name string, flags ...string) *exec.Cmd {
	cmd := exec.Command("boxlite", append([]string{"auth", "login", "--api-key-stdin", "--profile", name}, flags...)...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, env, strings.NewReader("a-key-0123456789")
	return cmd
}

// TestLoginsSideBySide: none is lost, what a login that was killed has left goes,
// and a symbolic link to the file stays one.
func TestLoginsSideBySide(t *testing.T) {
	env := home(t, "fake"+viaServer)
	dir, kept := t.TempDir(), t.TempDir()
	env = append(env, "BOXLITE_HOME="+dir)
	link, left := filepath.Join(dir, "credentials.toml"), filepath.Join(kept, ".secret.toml.123")
	if err := os.Symlink(filepath.Join(kept, "secret.toml"), link); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{link: 0o600, left: 0o600} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	const n = 8
	var cmds []*exec.Cmd
	for i := range n {
		cmd := login(env, dir, fmt.Sprint("p", i))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for i, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("login %d: %v", i, err)
		}
	}
	for i := range n {
		if who := run(t, env, "--profile", fmt.Sprint("p", i), "auth", "whoami"); !strings.HasPrefix(who, "local") {
			t.Errorf("profile p%d: got %q", i, who)
		}
	}
	if _, err := os.Lstat(left); err == nil {
		t.Error("the file of a login that was killed is there")
	}
	if to, err := os.Readlink(link); err != nil || to != filepath.Join(kept, "secret.toml") {
		t.Errorf("the link: got %q, %v", to, err)
	}
}

// TestLoginKeepsTheCAFile: a profile is good in any directory.
func TestLoginKeepsTheCAFile(t *testing.T) {
	env := home(t, "fake"+viaServer)
	dir := t.TempDir()
	env = append(env, "BOXLITE_HOME="+dir)
	srv := httptest.NewTLSServer(nil)
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	srv.Close()
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := login(env, dir, "team", "--ca-file", "ca.pem").CombinedOutput(); err != nil {
		t.Fatalf("login: %v: %s", err, out)
	}
	if who := run(t, env, "--profile", "team", "auth", "whoami"); !strings.HasPrefix(who, "local") {
		t.Errorf("from elsewhere: got %q", who)
	}
}
