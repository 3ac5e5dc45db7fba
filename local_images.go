package boxlite

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/boxlite-go/boxlite/internal/image"
)

// localImages is the image store of a home. It implements imageStore.
type localImages struct {
	store *image.Store
	rt    *local
}

func (r *local) images() imageStore { return &localImages{r.image, r} }

// imageConfig is how the image store of the runtime is opened.
func imageConfig(r *local, c Config) image.Config {
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

func (im *localImages) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	ctx, end := im.rt.trace.step(ctx, "image.pull", slog.String("image", ref))
	m, err := im.store.Pull(ctx, ref, pullOptions(progress))
	end(err)
	return one("pull", ref, m, err)
}

func (im *localImages) Ensure(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
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

func (im *localImages) List(ctx context.Context) ([]Image, error) {
	ms, err := im.store.Images(ctx)
	if err != nil {
		return nil, imageFail("images", "", err)
	}
	return publicImages(ms), nil
}

func (im *localImages) Get(ctx context.Context, ref string) (Image, error) {
	m, err := im.store.Image(ctx, ref)
	return one("image", ref, m, err)
}

func (im *localImages) Remove(ctx context.Context, ref string) (int64, error) {
	used, err := im.used(ctx)
	if err != nil {
		return 0, imageFail("rmi", ref, err)
	}
	n, err := im.store.Remove(ctx, ref, func(digest string) bool { return used[digest] })
	return n, imageFail("rmi", ref, err)
}

func (im *localImages) Prune(ctx context.Context, all bool) ([]Image, int64, error) {
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
func (im *localImages) used(ctx context.Context) (map[string]bool, error) {
	rows, err := im.rt.store.Boxes(ctx)
	used := map[string]bool{}
	for _, row := range rows {
		used[row.Image] = true
	}
	return used, err
}

func (im *localImages) Load(ctx context.Context, path string) ([]Image, error) {
	ms, err := im.store.Load(ctx, path, image.LoadOptions{})
	return publicImages(ms), imageFail("load", path, err)
}

func (im *localImages) LoadFrom(ctx context.Context, r io.Reader) ([]Image, error) {
	ms, err := im.store.LoadFrom(ctx, r, image.LoadOptions{})
	return publicImages(ms), imageFail("load", "", err)
}

func (im *localImages) Import(ctx context.Context, r io.Reader, ref string, c ImageConfig) (Image, error) {
	m, err := im.store.Import(ctx, r, ref, image.ImportOptions{Config: image.ImageConfig{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
	}})
	return one("import", ref, m, err)
}

func (im *localImages) Save(ctx context.Context, w io.Writer, refs []string, oci bool) error {
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
func (r *local) loadRootfs(ctx context.Context, path string) (*image.Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		if _, err := os.Stat(filepath.Join(path, "oci-layout")); err != nil {
			return r.image.ImportDir(ctx, path, "")
		}
	}
	ms, err := r.image.Load(ctx, path, image.LoadOptions{})
	if err != nil {
		return nil, err
	}
	if len(ms) != 1 {
		return nil, &cause{ErrImage, errors.New(path + " holds several images: load it, and name one")}
	}
	return ms[0], nil
}
