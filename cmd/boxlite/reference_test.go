package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

var update = flag.Bool("update", false, "write docs/cli.md anew")

const referenceHead = `# The command line

<!-- Written by "go test ./cmd/boxlite -run TestReference -update"; change the commands instead. -->

`

const referenceTail = `
## Configuration file

--config names a JSON file. Flags and the environment go before it.

` + "```json" + `
{
  "home_dir": "/var/lib/boxes",
  "image_registries": [
    {"host": "ghcr.io", "search": true, "auth": {"type": "bearer", "token": "..."}},
    {"host": "registry.example.com:5000", "transport": "http"},
    {"host": "own.example.com", "ca_file": "/etc/ssl/own.pem", "auth": {"type": "basic", "username": "u", "password": "p"}}
  ],
  "mirrors": [{"registry": "docker.io", "host": "mirror.example.com/hub"}]
}
` + "```" + `

"transport" is https or http, "skip_verify" accepts any certificate, and "auth"
has the type basic, bearer or anonymous. Without it the credentials of docker
login are used.

## Output

--format takes table, json, yaml, or a Go template, which is applied to each
item. A template may use the names of the JSON output or their Go form
({{.memory_mib}}, {{.MemoryMiB}}), and the functions json, join, lower and
upper. Names in JSON and YAML stay; new ones may come. Those of inspect are in
the form that scripts for containers know ({{.State.Status}}), those of info
are BoxLite's.
`

// reference writes the documentation of all commands.
func reference() []byte {
	var b bytes.Buffer
	root := (&app{}).root()
	root.InitDefaultHelpCmd()
	b.WriteString(referenceHead)
	fmt.Fprintf(&b, "%s\n\nFlags that every command takes:\n\n```text\n%s```\n", rootLong, root.PersistentFlags().FlagUsages())
	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(group.Title, ":"))
		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID && cmd.Name() != "help" {
				describe(&b, cmd)
				for _, sub := range cmd.Commands() {
					describe(&b, sub)
				}
			}
		}
	}
	fmt.Fprint(&b, "\n### boxlite completion bash|zsh|fish|powershell\n\n",
		"Write a script that completes commands, flags, boxes and images in that shell.\n")
	b.WriteString(referenceTail)
	return b.Bytes()
}

func describe(b *bytes.Buffer, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n", cmd.UseLine())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintln(b, text)
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso called %s.\n", strings.Join(cmd.Aliases, ", "))
	}
	if cmd.HasAvailableLocalFlags() {
		fmt.Fprintf(b, "\n```text\n%s```\n", cmd.NonInheritedFlags().FlagUsages())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
}

func TestReference(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "cli.md")
	want := reference()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the commands say; run go test ./cmd/boxlite -run TestReference -update", path)
	}
}
