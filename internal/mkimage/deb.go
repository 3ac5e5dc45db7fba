package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"strings"
)

// deb is what the package database says of a package.
type deb struct {
	name      string
	control   string            // its paragraph
	members   map[string]string // other control files: scripts, conffiles, md5sums
	files     []string          // as dpkg lists them
	qualified string            // the name its files in the database begin with
}

// unwanted is what slim images leave out.
var unwanted = []string{
	"usr/share/doc/", "usr/share/info/", "usr/share/lintian/", "usr/share/locale/", "usr/share/man/",
	"usr/share/bug/", "usr/share/doc-base/",
}

// wanted tells whether a file goes into the image. Debian's mark that pip must
// not install into its Python stays out, as the official images have none.
func wanted(name string) bool {
	for _, dir := range unwanted {
		if strings.HasPrefix(name+"/", dir) {
			return path.Base(name) == "copyright"
		}
	}
	return path.Base(name) != "EXTERNALLY-MANAGED"
}

// readControl reads the control files of a package.
func readControl(ctx context.Context, file string) (deb, error) {
	d := deb{members: map[string]string{}}
	err := eachEntry(ctx, "--ctrl-tarfile", file, func(hdr *tar.Header, r io.Reader) error {
		if hdr.Typeflag != tar.TypeReg {
			return nil
		}
		b, err := io.ReadAll(r)
		if name := path.Base(hdr.Name); name == "control" {
			d.control = strings.TrimSpace(string(b))
		} else {
			d.members[name] = string(b)
		}
		return err
	})
	d.name = d.field("Package")
	d.qualified = d.name
	if d.field("Multi-Arch") == "same" {
		d.qualified += ":" + d.field("Architecture")
	}
	return d, err
}

// field is the first line of a field of the control paragraph.
func (d deb) field(name string) string {
	for line := range strings.Lines(d.control) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// unpack adds a package's files to the tree and returns their names.
func unpack(ctx context.Context, t *tree, file string) ([]string, error) {
	var files []string
	err := eachEntry(ctx, "--fsys-tarfile", file, func(hdr *tar.Header, r io.Reader) error {
		name := path.Clean("/" + hdr.Name)
		if name == "/" {
			files = append(files, "/.")
			return nil
		}
		files = append(files, name)
		if !wanted(name[1:]) {
			return nil
		}
		if doc := path.Dir(name); path.Base(name) == "copyright" && !t.has(doc) {
			t.dir(doc[1:], 0o755)
		}
		return t.add(hdr, r)
	})
	return files, err
}

// eachEntry calls f with each entry of one of the two tar streams in a package.
func eachEntry(ctx context.Context, which, file string, f func(*tar.Header, io.Reader) error) (err error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", which, file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_, drained := io.Copy(io.Discard, out) // the padding; else dpkg-deb would die of a closed pipe
		if waited := cmd.Wait(); waited != nil {
			err = errors.Join(err, drained, fmt.Errorf("%s: %w: %s", file, waited, stderr.String()))
		}
	}()
	tr := tar.NewReader(out)
	for {
		hdr, err := tr.Next()
		if err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := f(hdr, tr); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
}
