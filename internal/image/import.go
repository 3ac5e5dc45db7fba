package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ImportOptions are those of an import. The zero value is right.
type ImportOptions struct {
	Config ImageConfig // of the new image
}

// Import makes an image of one layer from a tar of a root file system, plain
// or compressed with gzip or zstd. An empty ref leaves it without a name.
func (s *Store) Import(ctx context.Context, r io.Reader, ref string, o ImportOptions) (*Image, error) {
	return s.importAt(ctx, r, ref, o, time.Now())
}

// ImportDir is Import of a directory that holds a root file system. Files of
// the caller belong to root in the image; sockets and device nodes are left
// out. The same files make the same image.
func (s *Store) ImportDir(ctx context.Context, dir, ref string) (*Image, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() { // ends with the pipe, which is closed before we return
		defer close(done)
		pw.CloseWithError(packDir(pw, root.FS()))
	}()
	im, err := s.importAt(ctx, pr, ref, ImportOptions{}, time.Time{})
	pr.Close()
	<-done
	return im, err
}

func (s *Store) importAt(ctx context.Context, r io.Reader, ref string, o ImportOptions, created time.Time) (*Image, error) {
	var refs []string
	if ref != "" {
		parsed, err := ParseReference(ref)
		switch {
		case err != nil:
			return nil, err
		case parsed.Digest() != "":
			return nil, fmt.Errorf("%w %q: an import has no digest yet; name it like \"name:tag\"", ErrInvalidReference, ref)
		}
		refs = []string{parsed.Full()}
	}
	blob, err := s.stage(ctx, r)
	if err != nil {
		return nil, err
	}
	a := &arrival{layers: []*staged{blob}, mt: types.OCIManifestSchema1}
	defer a.discard()
	rootfs, diffs, err := s.unpack(ctx, a.unpackable())
	if err != nil {
		return nil, err
	}
	defer rootfs.discard()
	cf := v1.ConfigFile{
		OS: s.platform.OS, Architecture: s.platform.Architecture, Variant: s.platform.Variant,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffs}, Config: fileConfig(o.Config),
		Created: v1.Time{Time: created.UTC().Truncate(time.Second)},
	}
	a.config = mustJSON(cf)
	mt, err := blob.layerType()
	if err != nil {
		return nil, err
	}
	a.describe(types.OCIConfigJSON, []types.MediaType{mt})
	return s.admit(a, rootfs, refs)
}

// describe writes the manifest for the configuration and the layers.
func (a *arrival) describe(config types.MediaType, layers []types.MediaType) {
	m := v1.Manifest{SchemaVersion: 2, MediaType: a.mt, Layers: []v1.Descriptor{}}
	m.Config = v1.Descriptor{MediaType: config, Size: int64(len(a.config)), Digest: digestOf(a.config)}
	for i, l := range a.layers {
		m.Layers = append(m.Layers, v1.Descriptor{MediaType: layers[i], Size: l.size, Digest: l.digest})
	}
	a.manifest = mustJSON(m)
}

// layerType is the type of a layer by its first bytes.
func (b *staged) layerType() (types.MediaType, error) {
	var magic [4]byte
	n, err := b.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch {
	case n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		return types.OCILayer, nil
	case n == 4 && magic == [4]byte{0x28, 0xb5, 0x2f, 0xfd}:
		return types.OCILayerZStd, nil
	}
	return types.OCIUncompressedLayer, nil
}

// packDir writes a directory as the layer of an image.
func packDir(w io.Writer, dir fs.FS) error {
	tw := tar.NewWriter(w)
	links := make(map[[2]uint64]string) // files with several names, by their first
	err := fs.WalkDir(dir, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		return packEntry(tw, dir, name, st, links)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packEntry(tw *tar.Writer, dir fs.FS, name string, st fs.FileInfo, links map[[2]uint64]string) error {
	if st.Mode()&(fs.ModeSocket|fs.ModeDevice) != 0 {
		return nil
	}
	target := ""
	if st.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = fs.ReadLink(dir, name); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(st, target)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if st.IsDir() {
		h.Name += "/"
	}
	if h.Uid == os.Getuid() {
		h.Uid = 0
	}
	if h.Gid == os.Getgid() {
		h.Gid = 0
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 1 && !st.IsDir() {
		id := [2]uint64{sys.Dev, sys.Ino}
		if first, seen := links[id]; seen {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return tw.WriteHeader(h)
		}
		links[id] = name
	}
	if err := tw.WriteHeader(h); err != nil || !st.Mode().IsRegular() {
		return err
	}
	f, err := dir.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(tw, f, h.Size)
	return err
}
