package rest

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// npmClient is BoxLite's published client, as its users get it.
const npmClient = "@boxlite-ai/boxlite@0.10.0"

// install installs the client below build, once for all runs.
func install(t *testing.T) (dir string) {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			testenv.Missing(t, "npm", err.Error()+`; run "apt-get install nodejs npm"`)
		}
	}
	dir = filepath.Join(boxtest.Root(), "build", "npm")
	if _, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json")); err == nil {
		return dir
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"private":true}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", npmClient)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		testenv.Missing(t, "npm", "npm install "+npmClient+": "+err.Error()+"\n"+string(out))
	}
	return dir
}

// TestNPMClient drives the server with BoxLite's own client, real and
// unmodified. What it does and expects is in testdata/drive.mjs.
func TestNPMClient(t *testing.T) {
	dir := install(t)
	s := serve(t, restapi.Config{}, boxtest.Alpine)
	cmd := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "drive.mjs"))
	cmd.Env = append(os.Environ(),
		"BOXLITE_CLIENT="+filepath.Join(dir, "node_modules", "@boxlite-ai", "boxlite", "dist", "index.js"),
		"URL="+s.url, "KEY="+apiKey, "WORK="+t.TempDir(), "ONLY="+os.Getenv("BOXLITE_TEST_ONLY"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for sc := bufio.NewScanner(out); sc.Scan(); {
		var c struct{ Name, Error string }
		if err := json.Unmarshal(sc.Bytes(), &c); err != nil {
			t.Errorf("the driver said %q", sc.Text())
			continue
		}
		n++
		t.Run(c.Name, func(t *testing.T) {
			if c.Error != "" {
				t.Error(c.Error)
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the driver ended with %v after %d cases", err, n)
	}
	if n == 0 {
		t.Error("the driver ran nothing")
	}
}
