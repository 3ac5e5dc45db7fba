// Command mkimage makes stand-ins for well-known images out of Debian
// packages, as docker-archives that boxlite load takes. They are for machines
// that reach no public registry, and for tests.
//
// Packages come through the machine's own apt configuration into a cache of
// its own; nothing of the machine is changed and no privilege is needed: the
// packages' tar streams are merged as they are, and no maintainer script runs.
package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// sources are what an image is made by: when they change, images are made anew.
//
//go:embed *.go
var sources embed.FS

func main() {
	out := flag.String("o", "build/images", "directory of the images")
	cache := flag.String("cache", "build/cache", "directory of downloads")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *out, *cache, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "mkimage:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(os.Stderr, "usage: mkimage [-o DIR] [-cache DIR] [IMAGE...]\n\nImages:")
	for _, r := range recipes {
		fmt.Fprint(os.Stderr, " ", r.name)
	}
	fmt.Fprintln(os.Stderr)
	flag.PrintDefaults()
}

// run makes the named images, or all, unless they are there and up to date.
func run(ctx context.Context, out, cache string, names []string) error {
	todo, err := pick(names)
	if err != nil {
		return err
	}
	stamp, err := fingerprint()
	if err != nil {
		return err
	}
	todo = slices.DeleteFunc(todo, func(r recipe) bool { return current(r.path(out), stamp) })
	if len(todo) == 0 {
		return nil
	}
	a, err := newApt(ctx, cache)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, r := range todo {
		fmt.Println("images: making", r.path(out))
		if err := r.make(ctx, a, out, stamp); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

func pick(names []string) ([]recipe, error) {
	if len(names) == 0 {
		return slices.Clone(recipes), nil
	}
	var picked []recipe
	for _, n := range names {
		i := slices.IndexFunc(recipes, func(r recipe) bool { return r.name == n })
		if i < 0 {
			return nil, fmt.Errorf("no image %q", n)
		}
		picked = append(picked, recipes[i])
	}
	return picked, nil
}

// fingerprint is a digest of this program.
func fingerprint() (string, error) {
	sum := sha256.New()
	err := fs.WalkDir(sources, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		return addFile(sum, path)
	})
	return runtime.GOARCH + "-" + hex.EncodeToString(sum.Sum(nil)[:8]), err
}

func addFile(sum hash.Hash, path string) error {
	b, err := sources.ReadFile(path)
	if err != nil {
		return err
	}
	fmt.Fprintf(sum, "%s %d\n", path, len(b))
	sum.Write(b)
	return nil
}

// make builds the image and puts it in place in one step.
func (r recipe) make(ctx context.Context, a *apt, out, stamp string) (err error) {
	debs, err := a.download(ctx, r.packages)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(out, r.name+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	t, err := newTree(work)
	if err != nil {
		return err
	}
	defer t.close()
	if err := r.fill(ctx, t, debs); err != nil {
		return err
	}
	layer := filepath.Join(work, "layer.tar.gz")
	if err := writeLayer(layer, t); err != nil {
		return err
	}
	tmp := filepath.Join(work, "image.tar")
	if err := writeArchive(tmp, layer, r, stamp); err != nil {
		return err
	}
	return os.Rename(tmp, r.path(out))
}

func (r recipe) path(dir string) string { return filepath.Join(dir, r.name+".tar") }
