package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is one image of a store, as it was when asked. It is the caller's.
type Image struct {
	Ref          string // as users write it: "python:slim"; empty when untagged
	Digest       string // of the manifest for the platform
	ConfigDigest string // the image id
	Rootfs       string // path of the EROFS file
	Size         int64  // bytes of manifest, configuration and layers
	RootfsSize   int64  // bytes of the EROFS file on disk; 0 while it is not made
	Layers       int
	Created      time.Time // zero if the image does not say
	Pulled       time.Time // or loaded, or imported
	Platform     string
	Config       ImageConfig
}

// ImageConfig is how an image wants to be run.
type ImageConfig struct {
	Entrypoint   []string
	Cmd          []string
	Env          []string
	WorkingDir   string
	User         string
	ExposedPorts []string // "80/tcp", sorted
	Volumes      []string // paths, sorted
	Labels       map[string]string
	StopSignal   string
}

// dockerZstd is what BuildKit pushes.
const dockerZstd types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// parseManifest reads an image manifest and refuses what we could not take.
func parseManifest(b []byte) (*v1.Manifest, error) {
	m, err := v1.ParseManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if m.SchemaVersion != 2 {
		return nil, fmt.Errorf("manifest has schema version %d, want 2; push the image again with a current tool", m.SchemaVersion)
	}
	if m.Config.MediaType != types.OCIConfigJSON && m.Config.MediaType != types.DockerConfigJSON {
		return nil, fmt.Errorf("manifest of type %q is not one of a container image", m.Config.MediaType)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: %d layers, at most %d", ErrHostile, len(m.Layers), maxLayers)
	}
	if err := checkBlob(m.Config, maxConfig); err != nil {
		return nil, err
	}
	for _, l := range m.Layers {
		if err := checkBlob(l, 1<<62); err != nil {
			return nil, err
		}
		if !l.MediaType.IsLayer() && l.MediaType != dockerZstd {
			return nil, fmt.Errorf("layer %s has type %q, which is not supported", short(l.Digest.String()), l.MediaType)
		}
	}
	return m, nil
}

// checkBlob refuses what could not be a blob of the store.
func checkBlob(d v1.Descriptor, limit int64) error {
	if d.Digest.Algorithm != "sha256" {
		return fmt.Errorf("digest %q: only sha256 is supported", d.Digest)
	}
	if d.Size < 0 || d.Size > limit {
		return fmt.Errorf("%w: blob %s of %d bytes, at most %d", ErrHostile, short(d.Digest.String()), d.Size, limit)
	}
	return nil
}

// parseConfig reads an image configuration that must fit the manifest.
func parseConfig(b []byte, m *v1.Manifest) (*v1.ConfigFile, error) {
	cf, err := v1.ParseConfigFile(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if len(cf.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: %d layers, but the configuration lists %d", ErrHostile, len(m.Layers), len(cf.RootFS.DiffIDs))
	}
	return cf, nil
}

// choose picks the manifest for a platform out of an index.
func choose(index *v1.IndexManifest, want *v1.Platform) (v1.Descriptor, error) {
	var have []string
	for _, d := range index.Manifests {
		if d.Platform == nil || !d.MediaType.IsImage() {
			continue
		}
		if fits(*d.Platform, want) {
			return d, nil
		}
		if d.Platform.OS != "unknown" {
			have = append(have, d.Platform.String())
		}
	}
	// An index of one image need not say for what it is.
	if len(index.Manifests) == 1 && index.Manifests[0].Platform == nil && index.Manifests[0].MediaType.IsImage() {
		return index.Manifests[0], nil
	}
	return v1.Descriptor{}, fmt.Errorf("%w: want %s, it has %v", ErrPlatform, want, have)
}

func fits(have v1.Platform, want *v1.Platform) bool {
	return have.OS == want.OS && have.Architecture == want.Architecture &&
		(want.Variant == "" || have.Variant == "" || want.Variant == have.Variant)
}

// checkPlatform refuses an image that says it is for another machine.
func checkPlatform(cf *v1.ConfigFile, want *v1.Platform) error {
	have := v1.Platform{OS: cf.OS, Architecture: cf.Architecture, Variant: cf.Variant}
	if have.OS == "" {
		have.OS = want.OS
	}
	if have.Architecture == "" {
		have.Architecture = want.Architecture
	}
	if !fits(have, want) {
		return fmt.Errorf("%w: it is for %s, want %s; use a tag for several platforms", ErrPlatform, have, want)
	}
	return nil
}

func runConfig(c v1.Config) ImageConfig {
	return ImageConfig{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)), Volumes: slices.Sorted(maps.Keys(c.Volumes)),
		Labels: c.Labels, StopSignal: c.StopSignal,
	}
}

func fileConfig(c ImageConfig) v1.Config {
	set := func(keys []string) map[string]struct{} {
		if len(keys) == 0 {
			return nil
		}
		m := make(map[string]struct{}, len(keys))
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	return v1.Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User,
		ExposedPorts: set(c.ExposedPorts), Volumes: set(c.Volumes), Labels: c.Labels, StopSignal: c.StopSignal,
	}
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("image: encode %T: %v", v, err)) // our own types always encode
	}
	return b
}
