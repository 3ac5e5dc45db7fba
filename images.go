package boxlite

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/boxlite-go/boxlite/internal/image"
)

// Registry says how to talk to one registry host.
type Registry struct {
	Host       string // host[:port], no scheme
	PlainHTTP  bool   // http instead of https
	SkipVerify bool   // accept any certificate
	CAFile     string // more certificates to trust, PEM
	Search     bool   // try it for names without a host
	Username   string // with Password; instead of what docker's config file has
	Password   string
	Token      string // bearer token; goes before Username
}

// Mirror is a host asked before a registry.
type Mirror struct {
	Registry   string // whose images it has: "docker.io"
	Host       string // host[:port][/prefix]
	PlainHTTP  bool
	SkipVerify bool
}

// Image is one in the runtime's store. It is a copy.
type Image struct {
	Ref          string      `json:"ref"` // as users write it; empty when untagged
	Digest       string      `json:"digest"`
	ConfigDigest string      `json:"config_digest"`
	Size         int64       `json:"size"` // bytes on this host
	Layers       int         `json:"layers"`
	Created      time.Time   `json:"created,omitzero"`
	Pulled       time.Time   `json:"pulled,omitzero"`
	Platform     string      `json:"platform"`
	Config       ImageConfig `json:"config"`
}

// ImageConfig is how an image wants to be run.
type ImageConfig struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"`
}

// Progress is one moment of a pull. Total is 0 until it is known.
type Progress struct {
	Ref         string
	Phase       string // "resolve", "download", "unpack", "done"
	Done, Total int64  // bytes
}

// Images is the image store of a runtime. Its methods are safe for concurrent
// use, by any number of processes.
type Images struct {
	store *image.Store
	rt    *Runtime
}

// imageConfig is how the image store of the runtime is opened.
func imageConfig(r *Runtime, c Config) image.Config {
	ic := image.Config{Dir: filepath.Join(r.home, "images"), Logger: r.log, AllowAbsolute: c.AllowAbsoluteNames}
	for _, m := range c.Mirrors {
		ic.Mirrors = append(ic.Mirrors, image.Mirror{Registry: m.Registry, Host: m.Host, Insecure: m.PlainHTTP, SkipVerify: m.SkipVerify})
	}
	for _, g := range c.Registries {
		ic.Registries = append(ic.Registries, image.Registry{
			Host: g.Host, PlainHTTP: g.PlainHTTP, SkipVerify: g.SkipVerify, CAFile: g.CAFile, Search: g.Search,
			Username: g.Username, Password: g.Password, Token: g.Token,
		})
	}
	return ic
}

// Images returns the image store.
func (r *Runtime) Images() *Images { return &Images{store: r.images, rt: r} }

func publicConfig(c image.ImageConfig) ImageConfig {
	return ImageConfig{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User}
}

func publicImage(m *image.Image) Image {
	return Image{
		Ref: m.Ref, Digest: m.Digest, ConfigDigest: m.ConfigDigest, Size: m.Size + m.RootfsSize, Layers: m.Layers,
		Created: m.Created, Pulled: m.Pulled, Platform: m.Platform, Config: publicConfig(m.Config),
	}
}

func publicImages(ms []*image.Image) []Image {
	out := make([]Image, len(ms))
	for i, m := range ms {
		out[i] = publicImage(m)
	}
	return out
}

func imageFail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{op, name, imageErr(err)}
}

// one wraps the result of an operation on one image.
func one(op, name string, m *image.Image, err error) (Image, error) {
	if err != nil {
		return Image{}, imageFail(op, name, err)
	}
	return publicImage(m), nil
}

// Pull gets an image from its registry, also when an older one of that name is
// here. Only what is missing is downloaded; an interrupted pull goes on where
// it ended. progress, if not nil, is called about ten times a second, from one
// goroutine at a time. The error is [ErrInvalid] for a bad reference,
// [ErrNotFound], [ErrUnauthorized], [ErrUnreachable], [ErrImage] or
// [ErrExhausted].
func (im *Images) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	m, err := im.store.Pull(ctx, ref, pullOptions(progress))
	return one("pull", ref, m, err)
}

// Ensure returns the image if it is here, and pulls it otherwise.
func (im *Images) Ensure(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	m, err := im.store.Ensure(ctx, ref, pullOptions(progress))
	return one("pull", ref, m, err)
}

func pullOptions(progress func(Progress)) image.PullOptions {
	if progress == nil {
		return image.PullOptions{}
	}
	return image.PullOptions{Progress: func(p image.Progress) {
		progress(Progress{Ref: p.Ref, Phase: p.Phase, Done: p.Done, Total: p.Total})
	}}
}

// List returns the images that are here.
func (im *Images) List(ctx context.Context) ([]Image, error) {
	ms, err := im.store.Images(ctx)
	if err != nil {
		return nil, imageFail("images", "", err)
	}
	return publicImages(ms), nil
}

// Get returns the image with that reference, digest or unique beginning of a
// digest, if it is here. The error is [ErrNotFound] otherwise.
func (im *Images) Get(ctx context.Context, ref string) (Image, error) {
	m, err := im.store.Image(ctx, ref)
	return one("image", ref, m, err)
}

// Remove removes a reference, and the image itself when it was the last one.
// The error is [ErrState] while a box was made from the image. It returns the
// bytes freed.
func (im *Images) Remove(ctx context.Context, ref string) (int64, error) {
	used, err := im.used(ctx)
	if err != nil {
		return 0, imageFail("rmi", ref, err)
	}
	n, err := im.store.Remove(ctx, ref, func(digest string) bool { return used[digest] })
	return n, imageFail("rmi", ref, err)
}

// Prune removes what no box and no reference needs: untagged images, blobs,
// leftovers of interrupted pulls. With all it also removes tagged images that
// no box was made from. It returns what was removed, and the bytes freed.
func (im *Images) Prune(ctx context.Context, all bool) ([]Image, int64, error) {
	used, err := im.used(ctx)
	if err != nil {
		return nil, 0, imageFail("prune", "", err)
	}
	ms, n, err := im.store.Prune(ctx, func(m *image.Image) bool {
		return used[m.Digest] || !all && m.Ref != ""
	})
	return publicImages(ms), n, imageFail("prune", "", err)
}

// used returns the digests of the images that boxes were made from.
func (im *Images) used(ctx context.Context) (map[string]bool, error) {
	rows, err := im.rt.store.Boxes(ctx)
	used := map[string]bool{}
	for _, row := range rows {
		used[row.Image] = true
	}
	return used, err
}

// Load reads images from an archive as "docker save" writes it, or from an OCI
// layout, a directory or an archive.
func (im *Images) Load(ctx context.Context, path string) ([]Image, error) {
	ms, err := im.store.Load(ctx, path, image.LoadOptions{})
	return publicImages(ms), imageFail("load", path, err)
}

// LoadFrom is Load of an archive from r.
func (im *Images) LoadFrom(ctx context.Context, r io.Reader) ([]Image, error) {
	ms, err := im.store.LoadFrom(ctx, r, image.LoadOptions{})
	return publicImages(ms), imageFail("load", "", err)
}

// Import makes an image of one layer from a tar of a root file system, plain
// or compressed.
func (im *Images) Import(ctx context.Context, r io.Reader, ref string, c ImageConfig) (Image, error) {
	m, err := im.store.Import(ctx, r, ref, image.ImportOptions{Config: image.ImageConfig{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
	}})
	return one("import", ref, m, err)
}

// Save writes images as an archive that "docker load" takes, or as an OCI
// layout in a tar.
func (im *Images) Save(ctx context.Context, w io.Writer, refs []string, oci bool) error {
	format := image.FormatDocker
	if oci {
		format = image.FormatOCI
	}
	name := ""
	if len(refs) > 0 {
		name = refs[0]
	}
	return imageFail("save", name, im.store.Save(ctx, w, refs, format))
}

// loadRootfs takes a root file system from a path of the host: an image in
// some form, or a plain directory.
func (r *Runtime) loadRootfs(ctx context.Context, path string) (*image.Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		if _, err := os.Stat(filepath.Join(path, "oci-layout")); err != nil {
			return r.images.ImportDir(ctx, path, "")
		}
	}
	ms, err := r.images.Load(ctx, path, image.LoadOptions{})
	if err != nil {
		return nil, err
	}
	if len(ms) != 1 {
		return nil, &cause{ErrImage, errors.New(path + " holds several images: load it, and name one")}
	}
	return ms[0], nil
}
