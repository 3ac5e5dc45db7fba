package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// apt fetches packages with the machine's sources, keys and proxies, but with
// state of its own, so that no package counts as installed and an ordinary user
// may do it.
type apt struct {
	dir     string // absolute
	options []string
}

// preferences leaves out sources other than Debian's: a stand-in should not
// depend on what else a machine is set up for.
const preferences = `Package: *
Pin: release o=Debian
Pin-Priority: 500

Package: *
Pin: release *
Pin-Priority: -10
`

func newApt(ctx context.Context, cache string) (*apt, error) {
	dir, err := filepath.Abs(filepath.Join(cache, "apt"))
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"state/lists/partial", "archives/partial", "none/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	for name, content := range map[string]string{"status": "", "preferences": preferences} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return nil, err
		}
	}
	a := &apt{dir: dir, options: []string{
		"-qq", "-y",
		"-o", "Dir::State=" + dir + "/state",
		"-o", "Dir::State::status=" + dir + "/status",
		"-o", "Dir::Cache=" + dir,
		"-o", "Dir::Etc::preferences=" + dir + "/preferences",
		"-o", "Dir::Etc::preferencesparts=/dev/null",
		"-o", "APT::Install-Recommends=false",
		"-o", "APT::Sandbox::User=", // its usual one may not write here
		"-o", "Acquire::Retries=2",
	}}
	if _, err := a.run(ctx, "update"); err != nil {
		fmt.Fprintln(os.Stderr, "images: going on with old package lists:", err)
	}
	return a, nil
}

// download returns the files of packages and all they depend on, by name.
func (a *apt) download(ctx context.Context, packages []string) ([]string, error) {
	install := append([]string{"install"}, packages...)
	// With an empty archive directory apt lists every file: 'URI' NAME SIZE HASH.
	list, err := a.run(ctx, append(install, "--print-uris", "-o", "Dir::Cache::archives="+a.dir+"/none")...)
	if err != nil {
		return nil, err
	}
	if _, err := a.run(ctx, append(install, "--download-only")...); err != nil {
		return nil, err
	}
	var debs []string
	for line := range strings.Lines(list) {
		fields := strings.Fields(line)
		if len(fields) < 3 || !strings.HasSuffix(fields[1], ".deb") {
			continue
		}
		debs = append(debs, filepath.Join(a.dir, "archives", filepath.Base(fields[1])))
	}
	if len(debs) == 0 {
		return nil, fmt.Errorf("apt-get names no files for %s", strings.Join(packages, " "))
	}
	slices.Sort(debs)
	return debs, nil
}

func (a *apt) run(ctx context.Context, args ...string) (string, error) {
	return output(ctx, "apt-get", append(slices.Clone(a.options), args...)...)
}

// output is what a command prints; its complaints go into the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}
