package boxlite_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/boxlite-go/boxlite"

// layer says what the files of a package, tests aside, may import besides the
// standard library: packages of ours, and modules of others. Packages below it
// in the tree that have no line of their own share it, and may import each
// other.
type layer struct {
	ours    string
	outside string
}

// layers is the architecture, bottom up. A package without a line fails the
// test: it must be given a place.
var layers = map[string]layer{
	"egress":              {outside: "golang.org/x/net/idna"},
	"internal/guest":      {},
	"internal/engine":     {},
	"internal/undo":       {},
	"internal/agentbin":   {},
	"internal/pattern":    {},
	"internal/erofs":      {},
	"internal/hostos":     {outside: "golang.org/x/sys"},
	"internal/rest":       {},
	"internal/restclient": {ours: "internal/rest", outside: "github.com/coder/websocket"},
	"internal/tree":       {outside: "golang.org/x/sys"},

	"internal/engine/enginetest": {
		ours:    "internal/agentbin internal/engine internal/guest internal/hostos internal/undo",
		outside: "golang.org/x/sys",
	},
	"internal/agent": {ours: "internal/guest internal/tree internal/undo", outside: "golang.org/x/sys"},
	"internal/store": {ours: "internal/hostos", outside: "zombiezen.com/go/sqlite"},
	"internal/image": {
		ours:    "internal/erofs internal/hostos internal/pattern internal/undo",
		outside: "github.com/google/go-containerregistry github.com/klauspost/compress golang.org/x/sys",
	},
	"internal/vnet": {
		ours:    "egress internal/undo",
		outside: "golang.org/x/net/dns/dnsmessage golang.org/x/sys gvisor.dev/gvisor/pkg",
	},
	"gvisor": {
		ours: "internal/agentbin internal/engine internal/erofs internal/guest internal/hostos internal/pattern internal/undo",
		outside: "github.com/google/subcommands github.com/opencontainers/runtime-spec golang.org/x/sys gvisor.dev/gvisor " +
			"google.golang.org/protobuf/proto",
	},
	"internal/testenv": {ours: "gvisor internal/engine"},

	"internal/shim": {
		ours: "egress internal/engine internal/guest internal/hostos internal/image internal/store internal/undo " +
			"internal/vnet",
		outside: "golang.org/x/sys",
	},
	"": {
		ours: "egress internal/engine internal/guest internal/hostos internal/image internal/pattern internal/rest " +
			"internal/restclient internal/shim internal/store internal/tree internal/undo",
		outside: "github.com/coder/websocket github.com/google/go-containerregistry golang.org/x/sys",
	},
	"internal/httpapi": {ours: "boxlite internal/rest"},
	"internal/restapi": {
		ours:    "boxlite egress internal/httpapi internal/pattern internal/rest",
		outside: "github.com/coder/websocket github.com/prometheus/client_golang",
	},
	"internal/restapi/resttest": {outside: "github.com/getkin/kin-openapi/openapi3"},
	"internal/telemetry":        {ours: "boxlite", outside: "go.opentelemetry.io/otel"},
	"cmd/boxlite": {
		ours:    "boxlite egress gvisor internal/hostos internal/httpapi internal/pattern internal/restapi internal/telemetry",
		outside: "github.com/pelletier/go-toml github.com/spf13 go.yaml.in/yaml golang.org/x/sys golang.org/x/term",
	},
	"cmd/boxlite-agent": {ours: "internal/agent internal/guest"},

	"examples": {ours: "boxlite gvisor"},
	"test": {
		ours:    "boxlite egress gvisor internal/hostos internal/testenv",
		outside: "golang.org/x/net/dns/dnsmessage golang.org/x/sys",
	},

	"internal/gotest":  {},
	"internal/mkimage": {outside: "github.com/google/go-containerregistry github.com/klauspost/compress"},
}

func TestImportsPointDownward(t *testing.T) {
	for _, dir := range packageDirs(t) {
		name := layerOf(dir)
		if name == "" && dir != "." {
			t.Errorf("%s: has no line in layers", dir)
			continue
		}
		for file, imports := range importsOf(t, dir) {
			for _, imp := range imports {
				if !allowed(name, imp) {
					t.Errorf("%s: imports %s, which layers does not allow", file, imp)
				}
			}
		}
	}
}

// TestReach looks at everything a package pulls in, however indirectly.
func TestReach(t *testing.T) {
	for _, tt := range []struct {
		pkg    string
		never  []string // prefixes
		reason string
	}{
		{".", []string{"gvisor.dev/gvisor/runsc", "gvisor.dev/gvisor/pkg/sentry"}, "a program that embeds boxlite chooses its engine"},
		{"./cmd/boxlite-agent", []string{"net/http", "crypto/tls", "gvisor.dev", "google.golang.org"}, "the agent is small"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", tt.pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list %s: %v\n%s", tt.pkg, err, out)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			if slices.ContainsFunc(tt.never, func(p string) bool { return within(dep, p) }) {
				t.Errorf("%s reaches %s; %s", tt.pkg, dep, tt.reason)
			}
		}
	}
}

// allowed tells whether a file of the layer may import imp.
func allowed(name, imp string) bool {
	l := layers[name]
	first, _, _ := strings.Cut(imp, "/")
	if !strings.Contains(first, ".") {
		return true // standard library
	}
	rel, ours := strings.CutPrefix(imp, module)
	if !ours {
		return slices.ContainsFunc(strings.Fields(l.outside), func(m string) bool { return within(imp, m) })
	}
	if rel = strings.TrimPrefix(rel, "/"); rel == "" {
		return slices.Contains(strings.Fields(l.ours), "boxlite")
	}
	target := layerOf(rel)
	return target != "" && (target == name || slices.Contains(strings.Fields(l.ours), target))
}

// layerOf is the longest line of layers that the directory lies in.
func layerOf(dir string) string {
	for ; dir != "."; dir = path.Dir(dir) {
		if _, ok := layers[dir]; ok {
			return dir
		}
	}
	return ""
}

func within(name, prefix string) bool {
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}

// packageDirs lists the directories of this module that hold Go files.
func packageDirs(t *testing.T) []string {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != "." && (base == "testdata" || base == "tools" || base == "build" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if dir := path.Dir(name); strings.HasSuffix(name, ".go") && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// importsOf returns what each file of a directory imports, tests aside.
func importsOf(t *testing.T, dir string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	imports := map[string][]string{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imports[file] = append(imports[file], imp)
		}
	}
	return imports
}
