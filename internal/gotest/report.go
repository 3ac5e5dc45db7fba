package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

// report copies the part of a -json stream that matters to w. Lines that are
// not events are copied as they are.
func report(r io.Reader, w io.Writer) error {
	in := bufio.NewReader(r)
	p := printer{w: bufio.NewWriter(w), output: map[string][]string{}}
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			p.line(line)
		}
		if err == io.EOF {
			p.summary()
			return errors.Join(p.err, p.w.Flush())
		} else if err != nil {
			return err
		}
	}
}

type printer struct {
	w       *bufio.Writer
	output  map[string][]string // by package and test, of what has not ended
	skipped []string
	passed  int
	failed  int
	err     error // of writing
}

func (p *printer) line(line []byte) {
	var e event
	if !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
		p.w.Write(line)
		return
	}
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		p.w.WriteString(e.Output)
	case "output":
		p.output[key] = append(p.output[key], e.Output)
	case "pass", "skip", "fail":
		p.end(e, p.output[key])
		delete(p.output, key)
	}
}

// end tells about a test or a package that ended with the output out.
func (p *printer) end(e event, out []string) {
	switch {
	case e.Test == "":
		p.endPackage(e, out)
	case e.Action == "skip":
		p.skipped = append(p.skipped, e.Package+" "+e.Test+": "+reason(out))
	case e.Action == "fail":
		p.failed++
		p.w.WriteString(strings.Join(out, ""))
	default:
		p.passed++
	}
}

// endPackage prints the package's own line, and everything it said outside of
// tests when it failed: a panic, a leak, a failed TestMain. A package without
// tests says nothing.
func (p *printer) endPackage(e event, out []string) {
	if e.Action == "fail" {
		for key, lines := range p.output { // tests that never ended
			if pkg, test, _ := strings.Cut(key, " "); pkg == e.Package && test != "" {
				p.w.WriteString(strings.Join(lines, ""))
				delete(p.output, key)
			}
		}
		p.w.WriteString(strings.Join(out, ""))
		if e.FailedBuild != "" && len(out) == 0 {
			fmt.Fprintf(p.w, "FAIL\t%s [build failed]\n", e.Package)
		}
	} else if i := slices.IndexFunc(out, isPackageLine); i >= 0 {
		p.w.WriteString(out[i])
	}
	p.err = errors.Join(p.err, p.w.Flush())
}

func isPackageLine(s string) bool { return strings.HasPrefix(s, "ok  \t") }

// summary lists the skips; silence about them would look like success.
func (p *printer) summary() {
	slices.Sort(p.skipped)
	for _, s := range p.skipped {
		fmt.Fprintln(p.w, "skipped:", s)
	}
	fmt.Fprintf(p.w, "%d passed, %d failed, %d skipped\n", p.passed, p.failed, len(p.skipped))
}

// reason is what a skipped test said, without the place where it said it.
func reason(out []string) string {
	for _, s := range slices.Backward(out) {
		s = strings.TrimSpace(s)
		if s == "" || strings.HasPrefix(s, "---") || strings.HasPrefix(s, "===") {
			continue
		}
		if place, text, ok := strings.Cut(s, ": "); ok && strings.Contains(place, ".go:") {
			return text
		}
		return s
	}
	return "no reason given"
}
