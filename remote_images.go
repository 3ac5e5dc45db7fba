package boxlite

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/boxlite-go/boxlite/internal/restclient"
	"github.com/boxlite-go/boxlite/internal/tree"
)

// remoteImages is the image store of a server. It implements imageStore.
type remoteImages struct{ rt *remote }

func (r *remote) images() imageStore { return &remoteImages{r} }

func imageFrom(m rest.Image) Image {
	i := Image{
		Ref: m.Reference, Digest: m.Digest, ConfigDigest: m.ID, Size: m.SizeBytes, Layers: m.Layers,
		Pulled: m.CachedAt, Platform: m.Platform,
	}
	if m.CreatedAt != nil {
		i.Created = *m.CreatedAt
	}
	if m.Config != nil {
		i.Config = ImageConfig(*m.Config)
	}
	return i
}

func imagesFrom(list []rest.Image) []Image {
	out := make([]Image, len(list))
	for i, m := range list {
		out[i] = imageFrom(m)
	}
	return out
}

func (im *remoteImages) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	return im.pull(ctx, rest.Pull{Reference: ref}, progress)
}

func (im *remoteImages) Ensure(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	return im.pull(ctx, rest.Pull{Reference: ref, Missing: true}, progress)
}

// maxLine bounds a line of progress, in bytes.
const maxLine = 256 << 10

// pull follows a pull line by line.
func (im *remoteImages) pull(ctx context.Context, req rest.Pull, progress func(Progress)) (Image, error) {
	body, err := im.rt.stream(ctx, restclient.Request{
		Method: http.MethodPost, Path: []string{"images", "pull"}, JSON: req, Header: http.Header{"Accept": {"application/x-ndjson"}},
	})
	if err != nil {
		return Image{}, remoteErr("pull", req.Reference, err)
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l rest.PullLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return Image{}, remoteErr("pull", req.Reference, fmt.Errorf("server %s: a line that makes no sense: %w", im.rt.c, err))
		}
		switch {
		case l.Error != nil:
			return Image{}, remoteErr("pull", req.Reference, &restclient.Error{Fault: *l.Error})
		case l.Image != nil:
			return imageFrom(*l.Image), nil
		case l.Progress != nil && progress != nil:
			p := l.Progress
			progress(Progress{Ref: p.Reference, Phase: p.Phase, Done: p.Done, Total: p.Total})
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return Image{}, remoteErr("pull", req.Reference, fmt.Errorf("server %s: the pull broke off: %w", im.rt.c, err))
}

func (im *remoteImages) List(ctx context.Context) ([]Image, error) {
	var reply rest.Images
	if err := im.rt.get(ctx, &reply, nil, "images"); err != nil {
		return nil, remoteErr("images", "", err)
	}
	return imagesFrom(reply.Images), nil
}

func (im *remoteImages) Get(ctx context.Context, ref string) (Image, error) {
	var reply rest.Image
	if err := im.rt.get(ctx, &reply, nil, "images", ref); err != nil {
		return Image{}, remoteErr("image", ref, err)
	}
	return imageFrom(reply), nil
}

func (im *remoteImages) Remove(ctx context.Context, ref string) (int64, error) {
	var reply rest.Removed
	err := im.rt.c.JSON(ctx, restclient.Request{Method: http.MethodDelete, Path: []string{"images", ref}}, &reply)
	return reply.FreedBytes, remoteErr("rmi", ref, err)
}

func (im *remoteImages) Prune(ctx context.Context, all bool) ([]Image, int64, error) {
	var reply rest.PrunedImages
	if err := im.rt.post(ctx, rest.PruneImages{All: all}, &reply, "images", "prune"); err != nil {
		return nil, 0, remoteErr("prune", "", err)
	}
	return imagesFrom(reply.Images), reply.FreedBytes, nil
}

// Load sends an archive, or a directory as one.
func (im *remoteImages) Load(ctx context.Context, path string) ([]Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, &Error{"load", path, err}
	}
	if !st.IsDir() {
		f, err := os.Open(path)
		if err != nil {
			return nil, &Error{"load", path, err}
		}
		defer f.Close()
		return im.load(ctx, f, path)
	}
	r, w := io.Pipe()
	packed := make(chan struct{})
	go func() { // ends when the reader is closed; awaited below
		defer close(packed)
		w.CloseWithError(tree.Pack(w, path, tree.PackOptions{Name: "."}))
	}()
	images, err := im.load(ctx, r, path)
	r.Close()
	<-packed
	return images, err
}

func (im *remoteImages) LoadFrom(ctx context.Context, r io.Reader) ([]Image, error) {
	return im.load(ctx, r, "")
}

func (im *remoteImages) load(ctx context.Context, r io.Reader, name string) ([]Image, error) {
	var reply rest.Images
	err := im.rt.c.JSON(ctx, restclient.Request{
		Method: http.MethodPost, Path: []string{"images", "load"}, Body: r, Type: typeTar,
	}, &reply)
	if err != nil {
		return nil, remoteErr("load", name, err)
	}
	return imagesFrom(reply.Images), nil
}

func (im *remoteImages) Import(ctx context.Context, r io.Reader, ref string, c ImageConfig) (Image, error) {
	query := url.Values{"reference": {ref}, "entrypoint": c.Entrypoint, "cmd": c.Cmd, "env": c.Env}
	for k, v := range map[string]string{"working_dir": c.WorkingDir, "user": c.User} {
		if v != "" {
			query.Set(k, v)
		}
	}
	var reply rest.Image
	err := im.rt.c.JSON(ctx, restclient.Request{
		Method: http.MethodPost, Path: []string{"images", "import"}, Query: query, Body: r, Type: typeTar,
	}, &reply)
	if err != nil {
		return Image{}, remoteErr("import", ref, err)
	}
	return imageFrom(reply), nil
}

func (im *remoteImages) Save(ctx context.Context, w io.Writer, refs []string, oci bool) error {
	name := ""
	if len(refs) > 0 {
		name = refs[0]
	}
	body, err := im.rt.stream(ctx, restclient.Request{
		Method: http.MethodPost, Path: []string{"images", "save"}, JSON: rest.SaveImages{References: refs, OCI: oci},
	})
	if err != nil {
		return remoteErr("save", name, err)
	}
	defer body.Close()
	_, err = io.Copy(w, body)
	return remoteErr("save", name, err)
}

// remoteVolumes are the volumes of a server. It implements volumeStore.
type remoteVolumes struct{ rt *remote }

func (r *remote) volumes() volumeStore { return &remoteVolumes{r} }

func volumeFrom(v rest.Volume) VolumeInfo {
	return VolumeInfo{Name: v.Name, Path: v.Path, Created: v.CreatedAt.In(time.Local), Size: v.SizeBytes, Boxes: v.Boxes}
}

func volumesFrom(list []rest.Volume) []VolumeInfo {
	out := make([]VolumeInfo, len(list))
	for i, v := range list {
		out[i] = volumeFrom(v)
	}
	return out
}

func (v *remoteVolumes) Create(ctx context.Context, name string) (VolumeInfo, error) {
	var reply rest.Volume
	if err := v.rt.post(ctx, rest.CreateVolume{Name: name}, &reply, "volumes"); err != nil {
		return VolumeInfo{}, remoteErr("create volume", name, err)
	}
	return volumeFrom(reply), nil
}

func (v *remoteVolumes) Inspect(ctx context.Context, name string) (VolumeInfo, error) {
	var reply rest.Volume
	if err := v.rt.get(ctx, &reply, nil, "volumes", name); err != nil {
		return VolumeInfo{}, remoteErr("inspect volume", name, volumeGone(err))
	}
	return volumeFrom(reply), nil
}

// volumeGone says of a volume that is not there what is said here.
func volumeGone(err error) error {
	if e, ok := errors.AsType[*restclient.Error](err); ok && e.Status == http.StatusNotFound {
		return errNoVolume
	}
	return err
}

func (v *remoteVolumes) List(ctx context.Context) ([]VolumeInfo, error) {
	var reply rest.Volumes
	if err := v.rt.get(ctx, &reply, nil, "volumes"); err != nil {
		return nil, remoteErr("list volumes", "", err)
	}
	return volumesFrom(reply.Volumes), nil
}

func (v *remoteVolumes) Remove(ctx context.Context, name string) error {
	err := v.rt.c.JSON(ctx, restclient.Request{Method: http.MethodDelete, Path: []string{"volumes", name}}, nil)
	return remoteErr("remove volume", name, volumeGone(err))
}

func (v *remoteVolumes) Prune(ctx context.Context) ([]VolumeInfo, error) {
	var reply rest.Volumes
	if err := v.rt.post(ctx, nil, &reply, "volumes", "prune"); err != nil {
		return nil, remoteErr("prune volumes", "", err)
	}
	return volumesFrom(reply.Volumes), nil
}
