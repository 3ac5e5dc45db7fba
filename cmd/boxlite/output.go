package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// output is how a command prints what it found: --format and, for lists, -q.
type output struct {
	format string
	quiet  bool
}

func (o *output) register(cmd *cobra.Command, def string) {
	cmd.Flags().StringVarP(&o.format, "format", "f", def, "`FORMAT`: table, json, yaml, or a Go template such as {{.ID}}")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// registerList adds -q, which prints ids alone.
func (o *output) registerList(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.format, "format", "table", "`FORMAT`: table, json, yaml, or a Go template such as {{.ID}}")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print ids only")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if o.quiet && cmd.Flags().Changed("format") {
			return usagef("--quiet prints ids only: it cannot be used with --format")
		}
		return nil
	}
}

// table is a header and rows of cells.
type table struct {
	header []string
	rows   [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	lines := t.rows
	if t.header != nil {
		lines = append([][]string{t.header}, lines...)
	}
	for _, cells := range lines {
		for i, c := range cells {
			cells[i] = oneLine(c)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// printList prints views as the user asked. A template is applied to each.
func printList[T any](w io.Writer, format string, views []T, tab func(*table, T), header ...string) error {
	switch format {
	case "table":
		t := &table{header: header}
		for _, v := range views {
			tab(t, v)
		}
		return t.write(w)
	case "json", "yaml":
		if views == nil {
			views = []T{}
		}
		return encode(w, format, views)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	for _, v := range views {
		if err := execute(w, t, v); err != nil {
			return err
		}
	}
	return nil
}

// printOne prints a single view; in the table each line is a fact.
func printOne[T any](w io.Writer, format string, view T, tab func(*table, T)) error {
	switch format {
	case "table":
		return printList(w, format, []T{view}, tab)
	case "json", "yaml":
		return encode(w, format, view)
	}
	t, err := parseTemplate(format)
	if err != nil {
		return err
	}
	return execute(w, t, view)
}

func encode(w io.Writer, format string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	if format == "json" {
		_, err := w.Write(b.Bytes())
		return err
	}
	// JSON is YAML, so one set of field names and their order serve both.
	var node yaml.Node
	if err := yaml.Unmarshal(b.Bytes(), &node); err != nil {
		return err
	}
	block(&node)
	y := yaml.NewEncoder(w)
	y.SetIndent(2)
	if err := y.Encode(&node); err != nil {
		return err
	}
	return y.Close()
}

// block takes the JSON look off a node, but for what is empty.
func block(n *yaml.Node) {
	if len(n.Content) > 0 || n.Kind == yaml.ScalarNode {
		n.Style = 0
	}
	for _, c := range n.Content {
		block(c)
	}
}

func parseTemplate(text string) (*template.Template, error) {
	if !strings.Contains(text, "{{") {
		return nil, usagef("--format %q: want table, json, yaml, or a Go template such as {{.ID}}", text)
	}
	t, err := template.New("format").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false) // it is read by people and scripts, not by browsers
			err := enc.Encode(v)
			return strings.TrimSuffix(b.String(), "\n"), err
		},
		"join":  func(v []string, sep string) string { return strings.Join(v, sep) },
		"lower": strings.ToLower,
		"upper": strings.ToUpper,
	}).Parse(unescape(text))
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	return t, nil
}

// unescape puts tabs and line ends in the place of \t and \n, which are hard to
// type, where they are not part of an action.
func unescape(text string) string {
	var b strings.Builder
	for text != "" {
		plain, action, _ := strings.Cut(text, "{{")
		b.WriteString(strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(plain))
		if len(plain) == len(text) {
			break
		}
		action, rest, closed := strings.Cut(action, "}}")
		b.WriteString("{{" + action)
		if closed {
			b.WriteString("}}")
		}
		text = rest
	}
	return b.String()
}

// execute writes a line. A template may use the names of Go or those of the
// JSON output.
func execute(w io.Writer, t *template.Template, view any) error {
	var b bytes.Buffer
	err := t.Execute(&b, view)
	if err != nil {
		b.Reset()
		if t.Option("missingkey=error").Execute(&b, generic(view)) != nil {
			return usagef("--format: %w", err)
		}
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}

func generic(view any) (m map[string]any) {
	if b, err := json.Marshal(view); err == nil {
		_ = json.Unmarshal(b, &m)
	}
	return m
}

// orDash stands in for an empty cell, so that columns can be cut by a script.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// shortDigest is enough of a digest to name an image by.
func shortDigest(d string) string {
	_, hex, ok := strings.Cut(d, ":")
	if !ok {
		hex = d
	}
	return hex[:min(12, len(hex))]
}
