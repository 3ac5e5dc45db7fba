package main

import (
	"context"
	"fmt"
	"strings"
)

// database is dpkg's record of what is installed, so that dpkg and apt work in
// a box.
type database struct {
	debs []deb
}

func newDatabase() *database { return &database{} }

func (db *database) add(d deb) { db.debs = append(db.debs, d) }

// write puts the record where dpkg looks, in an image that has dpkg.
func (db *database) write(_ context.Context, t *tree) error {
	if !t.has("usr/bin/dpkg") {
		return nil
	}
	const dir = "var/lib/dpkg/"
	var status strings.Builder
	for _, d := range db.debs {
		conffiles, err := d.conffiles(t)
		if err != nil {
			return err
		}
		first, rest, _ := strings.Cut(d.control, "\n")
		fmt.Fprintf(&status, "%s\nStatus: install ok installed\n%s\n%s\n", first, rest, conffiles)
		t.file(dir+"info/"+d.qualified+".list", strings.Join(d.files, "\n")+"\n")
		for name, content := range d.members {
			mode := int64(0o644)
			if strings.HasPrefix(content, "#!") {
				mode = 0o755
			}
			t.fileMode(dir+"info/"+d.qualified+"."+name, content, mode, 0)
		}
	}
	t.file(dir+"status", status.String())
	t.file(dir+"info/format", "1\n")
	for _, name := range []string{"available", "diversions", "statoverride", "lock", "lock-frontend", "triggers/File", "triggers/Unincorp"} {
		t.file(dir+name, "")
	}
	for _, name := range []string{"updates", "alternatives", "parts"} {
		t.dir(dir+name, 0o755)
	}
	return nil
}

// conffiles is the field of that name: each with the digest it was delivered
// with, which dpkg compares before it replaces one.
func (d deb) conffiles(t *tree) (string, error) {
	var b strings.Builder
	for line := range strings.Lines(d.members["conffiles"]) {
		name := strings.TrimSpace(line)
		content, err := t.content(name)
		if err != nil {
			return "", err
		}
		if content != nil {
			fmt.Fprintf(&b, " %s %s\n", name, md5Hex(content))
		}
	}
	if b.Len() == 0 {
		return "", nil
	}
	return "Conffiles:\n" + b.String(), nil
}
