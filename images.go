package boxlite

import (
	"context"
	"io"
	"time"
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
type Images struct{ on imageStore }

// Pull gets an image from its registry, also when an older one of that name is
// here. Only what is missing is downloaded; an interrupted pull goes on where
// it ended. progress, if not nil, is called about ten times a second, from one
// goroutine at a time. The error is [ErrInvalid] for a bad reference,
// [ErrNotFound], [ErrUnauthorized], [ErrUnreachable], [ErrImage] or
// [ErrExhausted].
func (im *Images) Pull(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	return im.on.Pull(ctx, ref, progress)
}

// Ensure returns the image if it is here, and pulls it otherwise.
func (im *Images) Ensure(ctx context.Context, ref string, progress func(Progress)) (Image, error) {
	return im.on.Ensure(ctx, ref, progress)
}

// List returns the images that are here.
func (im *Images) List(ctx context.Context) ([]Image, error) { return im.on.List(ctx) }

// Get returns the image with that reference, digest or unique beginning of a
// digest, if it is here. The error is [ErrNotFound] otherwise.
func (im *Images) Get(ctx context.Context, ref string) (Image, error) { return im.on.Get(ctx, ref) }

// Remove removes a reference, and the image itself when it was the last one.
// The error is [ErrState] while a box was made from the image. It returns the
// bytes freed.
func (im *Images) Remove(ctx context.Context, ref string) (int64, error) {
	return im.on.Remove(ctx, ref)
}

// Prune removes what no box and no reference needs: untagged images, blobs,
// leftovers of interrupted pulls. With all it also removes tagged images that
// no box was made from. It returns what was removed, and the bytes freed.
func (im *Images) Prune(ctx context.Context, all bool) ([]Image, int64, error) {
	return im.on.Prune(ctx, all)
}

// Load reads images from an archive as "docker save" writes it, or from an OCI
// layout, a directory or an archive.
func (im *Images) Load(ctx context.Context, path string) ([]Image, error) {
	return im.on.Load(ctx, path)
}

// LoadFrom is Load of an archive from r.
func (im *Images) LoadFrom(ctx context.Context, r io.Reader) ([]Image, error) {
	return im.on.LoadFrom(ctx, r)
}

// Import makes an image of one layer from a tar of a root file system, plain
// or compressed.
func (im *Images) Import(ctx context.Context, r io.Reader, ref string, c ImageConfig) (Image, error) {
	return im.on.Import(ctx, r, ref, c)
}

// Save writes images as an archive that "docker load" takes, or as an OCI
// layout in a tar.
func (im *Images) Save(ctx context.Context, w io.Writer, refs []string, oci bool) error {
	return im.on.Save(ctx, w, refs, oci)
}
