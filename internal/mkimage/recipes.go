package main

import (
	"context"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// recipe is one stand-in.
type recipe struct {
	name     string   // of the file
	ref      string   // what the image is called when loaded
	packages []string // Debian's; what they depend on comes with them
	drop     []string // packages that only maintainer scripts would need
	links    [][2]string
	files    [][2]string // path and content; a path in a bin directory is executable
	config   v1.Config
}

const envPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// essential is what every Debian system has, the base of the official slim
// images too.
var essential = []string{
	"apt", "base-files", "base-passwd", "bash", "bsdutils", "coreutils", "dash", "debianutils",
	"diffutils", "dpkg", "findutils", "grep", "gzip", "hostname", "init-system-helpers", "libc-bin",
	"login", "mawk", "mount", "ncurses-base", "ncurses-bin", "passwd", "perl-base", "sed",
	"sysvinit-utils", "tar", "tzdata", "usr-is-merged", "util-linux",
}

var python = []string{"python3", "python3-pip", "python3-venv", "ca-certificates", "netbase"}

var pythonLinks = [][2]string{
	{"usr/local/bin/python", "/usr/bin/python3"},
	{"usr/local/bin/python3", "/usr/bin/python3"},
	{"usr/local/bin/pip", "/usr/bin/pip3"},
	{"usr/local/bin/pip3", "/usr/bin/pip3"},
}

var recipes = []recipe{
	{
		name:     "python-slim",
		ref:      "python:slim",
		packages: slices.Concat(essential, python),
		links:    pythonLinks,
		config:   v1.Config{Env: []string{envPath, "LANG=C.UTF-8"}, Cmd: []string{"python3"}},
	},
	{
		name: "dev", // compilers and such, for tests that build software in a box
		ref:  "boxlite-dev:latest",
		packages: slices.Concat(essential, python, []string{
			"binutils", "curl", "gcc", "git", "libc6-dev", "make", "patch", "procps", "python3-requests", "sqlite3", "sudo",
			"xz-utils",
		}),
		links:  slices.Concat(pythonLinks, [][2]string{{"usr/bin/cc", "gcc"}}),
		config: v1.Config{Env: []string{envPath, "LANG=C.UTF-8"}, Cmd: []string{"bash"}},
	},
	{
		name:     "node-alpine",
		ref:      "node:alpine",
		packages: []string{"busybox-static", "nodejs", "ca-certificates"},
		drop:     []string{"debconf", "perl-base", "openssl"},
		links:    [][2]string{{"usr/local/bin/node", "/usr/bin/node"}, {"usr/local/bin/nodejs", "node"}},
		files:    [][2]string{{"usr/local/bin/docker-entrypoint.sh", nodeEntrypoint}},
		config: v1.Config{
			Env:        []string{envPath},
			Entrypoint: []string{"docker-entrypoint.sh"},
			Cmd:        []string{"node"},
		},
	},
	{
		name:     "alpine",
		ref:      "alpine:latest",
		packages: []string{"busybox-static"},
		config:   v1.Config{Env: []string{envPath}, Cmd: []string{"/bin/sh"}},
	},
}

// nodeEntrypoint takes node's options and scripts without its name, as the
// official image does.
const nodeEntrypoint = `#!/bin/sh
set -e
if [ "${1#-}" != "$1" ] || ! command -v "$1" >/dev/null || [ -f "$1" -a ! -x "$1" ]; then
	set -- node "$@"
fi
exec "$@"
`

// fill makes the image's tree from packages.
func (r recipe) fill(ctx context.Context, t *tree, debs []string) error {
	skeleton(t)
	db := newDatabase()
	for _, path := range debs {
		d, err := readControl(ctx, path)
		if err != nil {
			return err
		}
		if slices.Contains(r.drop, d.name) {
			continue
		}
		if d.files, err = unpack(ctx, t, path); err != nil {
			return err
		}
		db.add(d)
	}
	for _, step := range []func(context.Context, *tree) error{
		configure, accounts, certificates, busybox, db.write,
	} {
		if err := step(ctx, t); err != nil {
			return err
		}
	}
	for _, l := range r.links {
		t.symlink(l[0], l[1])
	}
	for _, f := range r.files {
		t.file(f[0], f[1])
	}
	return r.describe(t)
}
