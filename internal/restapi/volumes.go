package restapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// volumeReply is a named volume as clients see it. Its name is its id.
type volumeReply struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	State     string    `json:"state"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`

	// Beyond BoxLite.
	SizeBytes int64    `json:"size_bytes"`
	Boxes     []string `json:"boxes,omitempty"`
}

type volumesReply struct {
	Volumes []volumeReply `json:"volumes"`
}

type volumeCreate struct {
	Name string `json:"name"`
}

func volumeOf(v boxlite.VolumeInfo) volumeReply {
	at := v.Created.UTC()
	return volumeReply{ID: v.Name, Name: v.Name, State: "ready", CreatedAt: at, UpdatedAt: at, SizeBytes: v.Size, Boxes: v.Boxes}
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var req volumeCreate
	if err := httpapi.Decode(w, r, &req, true); err != nil {
		return err
	}
	v, err := s.rt.Volumes().Create(r.Context(), req.Name)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v1/volumes/"+v.Name)
	httpapi.WriteJSON(w, http.StatusCreated, volumeOf(v))
	return nil
}

func (s *Server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	list, err := s.rt.Volumes().List(r.Context())
	if err != nil {
		return err
	}
	reply := volumesReply{Volumes: []volumeReply{}}
	for _, v := range list {
		reply.Volumes = append(reply.Volumes, volumeOf(v))
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

func (s *Server) getVolume(w http.ResponseWriter, r *http.Request) error {
	v, err := s.rt.Volumes().Inspect(r.Context(), r.PathValue("id"))
	if err != nil {
		return noVolume(r, err)
	}
	httpapi.WriteJSON(w, http.StatusOK, volumeOf(v))
	return nil
}

// removeVolume takes force to mean that a volume which is not there is removed.
func (s *Server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	force, err := boolQuery(r, "force", false)
	if err != nil {
		return err
	}
	err = s.rt.Volumes().Remove(r.Context(), r.PathValue("id"))
	if err != nil && !(force && errors.Is(err, boxlite.ErrNotFound)) {
		return noVolume(r, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func noVolume(r *http.Request, err error) error {
	if errors.Is(err, boxlite.ErrNotFound) {
		return httpapi.NotFound.Errorf("no volume %.130q", r.PathValue("id"))
	}
	return err
}

// volumes are those of a box that is to be created.
func (s *Server) volumes(ctx context.Context, list []volumeRequest) (out []boxlite.Volume, err error) {
	for _, v := range list {
		if (v.ManagedVolume == "") == (v.HostPath == "") {
			return nil, httpapi.InvalidArgument.Errorf("volumes: guest_path %q: give one of managed_volume and host_path", v.GuestPath)
		}
		if v.HostPath != "" {
			if v.HostPath, err = s.hostPath(ctx, "volumes.host_path", v.HostPath); err != nil {
				return nil, err
			}
		}
		out = append(out, boxlite.Volume{Host: v.HostPath, Name: v.ManagedVolume, Guest: v.GuestPath, ReadOnly: v.ReadOnly})
	}
	return out, nil
}
