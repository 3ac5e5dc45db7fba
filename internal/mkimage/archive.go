package main

import (
	"bufio"
	"errors"
	"os"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/gzip"
)

// label marks an image of ours with the fingerprint of what made it.
const label = "boxlite.standin"

// writeLayer writes the tree as one compressed layer.
func writeLayer(file string, t *tree) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := bufio.NewWriterSize(f, 1<<20)
	z, err := gzip.NewWriterLevel(buf, gzip.DefaultCompression)
	if err != nil {
		return err
	}
	if err := t.writeTo(z); err != nil {
		return err
	}
	return errors.Join(z.Close(), buf.Flush())
}

// writeArchive writes an image of one layer in the format of docker save.
func writeArchive(file, layer string, r recipe, stamp string) error {
	l, err := tarball.LayerFromFile(layer)
	if err != nil {
		return err
	}
	created := v1.Time{Time: time.Unix(0, 0).UTC()} // the same packages make the same image
	img, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   l,
		History: v1.History{CreatedBy: "mkimage " + r.name, Created: created},
	})
	if err != nil {
		return err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture, cf.Created = "linux", runtime.GOARCH, created
	cf.Config = *r.config.DeepCopy()
	cf.Config.Labels = map[string]string{label: stamp}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		return err
	}
	tag, err := name.NewTag(r.ref)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(file, tag, img)
}

// current tells whether the archive was made by this very program.
func current(file, stamp string) bool {
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return false
	}
	cf, err := img.ConfigFile()
	return err == nil && cf.Config.Labels[label] == stamp
}
