package boxlite

import (
	"context"
	"io"
	"io/fs"

	"github.com/boxlite-go/boxlite/internal/guest"
)

// localFiles asks the agent of a box. It implements files.
type localFiles struct {
	*guest.Client
	b *localBox
}

func (b *localBox) files() files { return &localFiles{b.guest(), b} }

func (f *localFiles) Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	return f.Client.Stat(ctx, name)
}

func (f *localFiles) Lstat(ctx context.Context, name string) (fs.FileInfo, error) {
	return f.Client.Lstat(ctx, name)
}

func (f *localFiles) ReadDir(ctx context.Context, name string) ([]fs.FileInfo, error) {
	list, err := f.Client.ReadDir(ctx, name)
	infos := make([]fs.FileInfo, len(list))
	for i, st := range list {
		infos[i] = st
	}
	return infos, err
}

func (f *localFiles) OpenFile(ctx context.Context, name string) (io.ReadCloser, error) {
	return reader(f.Client.OpenFile(ctx, name))
}

func (f *localFiles) CopyOut(ctx context.Context, out guest.CopyOut) (io.ReadCloser, error) {
	return reader(f.Client.CopyOut(ctx, out))
}

// reader keeps a nil *guest.File from becoming an interface that is not nil.
func reader(f *guest.File, err error) (io.ReadCloser, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// CopyIn gives what is copied in to the user that commands run as.
func (f *localFiles) CopyIn(ctx context.Context, in guest.CopyIn, r io.Reader) error {
	config, err := f.b.imageConfig(ctx)
	if err != nil {
		return err
	}
	if in.User = f.b.options.User; in.User == "" {
		in.User = config.User
	}
	return f.Client.CopyIn(ctx, in, r)
}
