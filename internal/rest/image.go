package rest

import "time"

// Image is one of the server's.
type Image struct {
	Reference  string    `json:"reference"`
	Repository string    `json:"repository"`
	Tag        string    `json:"tag"`
	ID         string    `json:"id"`
	CachedAt   time.Time `json:"cached_at"`
	SizeBytes  int64     `json:"size_bytes"`
	Digest     string    `json:"digest"`
	Layers     int       `json:"layers"`

	// Beyond BoxLite.
	CreatedAt *time.Time   `json:"created_at,omitempty"`
	Platform  string       `json:"platform"`
	Config    *ImageConfig `json:"config"`
}

// ImageConfig is how an image wants to be run.
type ImageConfig struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"working_dir,omitempty"`
	User       string   `json:"user,omitempty"`
}

// Images is a list of them.
type Images struct {
	Images []Image `json:"images"`
}

// Pull is the body of POST /v1/images/pull.
type Pull struct {
	Reference string `json:"reference"`
	// Missing leaves an image alone that is here. It is beyond BoxLite.
	Missing bool `json:"missing,omitempty"`
}

// PullLine is a line of the answer to a pull that is followed: progress, and at
// the end an image or an error.
type PullLine struct {
	Progress *Progress `json:"progress,omitempty"`
	Image    *Image    `json:"image,omitempty"`
	Error    *Fault    `json:"error,omitempty"`
}

// Progress is one moment of a pull.
type Progress struct {
	Reference string `json:"reference"`
	Phase     string `json:"phase"`
	Done      int64  `json:"done"`
	Total     int64  `json:"total"`
}

// Removed tells what a removal has freed.
type Removed struct {
	FreedBytes int64 `json:"freed_bytes"`
}

// PruneImages is the body of POST /v1/images/prune.
type PruneImages struct {
	All bool `json:"all,omitempty"`
}

// PrunedImages is what was removed.
type PrunedImages struct {
	Images     []Image `json:"images"`
	FreedBytes int64   `json:"freed_bytes"`
}

// SaveImages is the body of POST /v1/images/save.
type SaveImages struct {
	References []string `json:"references"`
	OCI        bool     `json:"oci,omitempty"`
}

// Volume is a named volume. Its name is its id.
type Volume struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// Beyond BoxLite.
	SizeBytes int64    `json:"size_bytes"`
	Boxes     []string `json:"boxes,omitempty"`
	Path      string   `json:"path"` // on the server's host
}

// Volumes is a list of them.
type Volumes struct {
	Volumes []Volume `json:"volumes"`
}

// CreateVolume is the body of POST /v1/volumes.
type CreateVolume struct {
	Name string `json:"name,omitempty"`
}
