package boxlite_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryDependencyIsExplained compares docs/deps.md with the two go.mod files.
func TestEveryDependencyIsExplained(t *testing.T) {
	doc := readDoc(t, "docs/deps.md")
	for _, file := range []string{"go.mod", "tools/go.mod"} {
		for _, module := range directDependencies(t, file) {
			if !strings.Contains(doc, "| "+module+" |") {
				t.Errorf("docs/deps.md: no line for %s of %s", module, file)
			}
		}
	}
}

// directDependencies returns the modules that a go.mod file requires for its
// own packages or as tools.
func directDependencies(t *testing.T, file string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", file).Output()
	if err != nil {
		t.Fatalf("go mod edit -json %s: %v", file, err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool []struct{ Path string }
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		tool := false
		for _, t := range mod.Tool {
			tool = tool || within(t.Path, r.Path)
		}
		if tool || !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	return direct
}

var links = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)

// TestDocumentsLinkToFiles follows the relative links of all documents.
func TestDocumentsLinkToFiles(t *testing.T) {
	docs := []string{"README.md", "SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"}
	for _, pattern := range []string{"docs/*.md", "docs/adr/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, files...)
	}
	for _, doc := range docs {
		for _, m := range links.FindAllStringSubmatch(readDoc(t, doc), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: link to %s: %v", doc, m[1], err)
			}
		}
	}
}

// TestReadmeProgramCompiles builds the Go program of the readme as it stands.
func TestReadmeProgramCompiles(t *testing.T) {
	_, rest, ok := strings.Cut(readDoc(t, "README.md"), "```go\n")
	program, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("README.md: no ```go block")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("go vet of the program in README.md: %v\n%s", err, out)
	}
}

func readDoc(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
