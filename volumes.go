package boxlite

import (
	"context"
	"time"
)

// VolumeInfo is what is known of a named volume at one moment. It is a copy.
type VolumeInfo struct {
	Name    string    `json:"name"`
	Path    string    `json:"path"` // of its directory on the host
	Created time.Time `json:"created"`
	// Size is what its files take of the disk, in bytes. What the user of
	// boxlite may not read does not count.
	Size int64 `json:"size"`
	// Boxes are the names, or the ids where there are none, of the boxes that
	// have it, running or not.
	Boxes []string `json:"boxes,omitempty"`
}

// Volumes are the named volumes of a runtime: directories in its home that
// outlast boxes. Any number of boxes may have the same one and write to it at
// once; keeping out of each other's way is up to them, and file locks do not
// reach from one box to another. Its methods are safe for concurrent use, by
// any number of processes.
type Volumes struct{ on volumeStore }

// Create makes an empty volume. An empty name gets one made up. The error is
// [ErrExists] when the name is taken, [ErrInvalid] when it is none.
func (v *Volumes) Create(ctx context.Context, name string) (VolumeInfo, error) {
	return v.on.Create(ctx, name)
}

// Inspect tells what is known of a volume. The error is [ErrNotFound] when
// there is none of that name.
func (v *Volumes) Inspect(ctx context.Context, name string) (VolumeInfo, error) {
	return v.on.Inspect(ctx, name)
}

// List returns all volumes, by name.
func (v *Volumes) List(ctx context.Context) ([]VolumeInfo, error) {
	return v.on.List(ctx)
}

// Remove deletes a volume and all that is in it. The error is [ErrNotFound]
// when there is none, [ErrState] while a box has it, running or not.
func (v *Volumes) Remove(ctx context.Context, name string) error {
	return v.on.Remove(ctx, name)
}

// Prune removes the volumes that no box has, and returns them as they were.
func (v *Volumes) Prune(ctx context.Context) ([]VolumeInfo, error) {
	return v.on.Prune(ctx)
}
