package image

import (
	"bytes"
	"encoding/json"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// manifestType is the type of a manifest or index: what it says itself, or the
// sender, or what it looks like.
func manifestType(b []byte, said types.MediaType) types.MediaType {
	var m struct {
		MediaType types.MediaType `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	_ = json.Unmarshal(b, &m) // what does not parse is refused by who reads it
	switch {
	case m.MediaType != "":
		return m.MediaType
	case said.IsImage() || said.IsIndex():
		return said
	case m.Manifests != nil:
		return types.OCIImageIndex
	}
	return types.OCIManifestSchema1
}

// fromIndex picks the manifest for the platform if b is an index, and returns
// nil if b is a manifest itself.
func fromIndex(b []byte, said types.MediaType, want *v1.Platform) (*v1.Descriptor, error) {
	mt := manifestType(b, said)
	switch {
	case mt.IsImage():
		return nil, nil
	case !mt.IsIndex():
		return nil, fmt.Errorf("manifest of type %q is not supported; push the image again with a current tool", mt)
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	d, err := choose(index, want)
	if err != nil {
		return nil, err
	}
	return &d, checkBlob(d, maxManifest)
}
