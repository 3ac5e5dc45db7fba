package rest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/boxlite-go/boxlite/internal/restapi"
	"github.com/boxlite-go/boxlite/internal/testenv"
	"github.com/boxlite-go/boxlite/test/boxtest"
)

// TestDocumentation runs the curl examples of docs/rest.md in their order.
func TestDocumentation(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		testenv.Missing(t, "curl", err.Error()+`; run "apt-get install curl"`)
	}
	doc, err := os.ReadFile(filepath.Join(boxtest.Root(), "docs", "rest.md"))
	if err != nil {
		t.Fatal(err)
	}
	// What each block must print, in the order of the document.
	want := []string{
		`"tty_enabled":true`,
		`"status":"configured"`,
		`"execution_id":"`,
		`"exit_code":3`,
		"srv/hostname\n234",
		`"status":"stopped".*204`,
		`unknown field \\"colour\\"`,
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(blocks) != len(want) {
		t.Fatalf("docs/rest.md has %d examples, the test knows %d", len(blocks), len(want))
	}
	s := serve(t, restapi.Config{}, boxtest.Alpine)
	env := append(os.Environ(), "URL="+s.url, "KEY="+apiKey)
	for i, b := range blocks {
		script := b[1]
		if strings.Contains(script, "$EXEC") { // as one who waits for it would
			script = `until ` + strings.TrimSpace(script) + ` | tee out | grep -q exit_code; do :; done; cat out`
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Env, cmd.Dir = env, t.TempDir()
		out, err := cmd.CombinedOutput()
		if err != nil || !regexp.MustCompile("(?s)"+want[i]).Match(out) {
			t.Fatalf("%s\nprinted: %s\n%v; want %s", script, out, err, want[i])
		}
		if m := regexp.MustCompile(`"execution_id":"([^"]+)"`).FindSubmatch(out); m != nil {
			env = append(env, "EXEC="+string(m[1]))
		}
	}
}
