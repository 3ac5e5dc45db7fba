package restapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

func volumeOf(v boxlite.VolumeInfo) rest.Volume {
	at := v.Created.UTC()
	return rest.Volume{ID: v.Name, Name: v.Name, State: "ready", CreatedAt: at, UpdatedAt: at, SizeBytes: v.Size, Boxes: v.Boxes, Path: v.Path}
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var req rest.CreateVolume
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
	httpapi.WriteJSON(w, http.StatusOK, volumesOf(list))
	return nil
}

func volumesOf(list []boxlite.VolumeInfo) rest.Volumes {
	reply := rest.Volumes{Volumes: []rest.Volume{}}
	for _, v := range list {
		reply.Volumes = append(reply.Volumes, volumeOf(v))
	}
	return reply
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

// pruneVolumes removes those that no box has.
func (s *Server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	list, err := s.rt.Volumes().Prune(r.Context())
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, volumesOf(list))
	return nil
}

func noVolume(r *http.Request, err error) error {
	if errors.Is(err, boxlite.ErrNotFound) {
		return httpapi.NotFound.Errorf("no volume %.130q", r.PathValue("id"))
	}
	return err
}

// volumes are those of a box that is to be created.
func (s *Server) volumes(ctx context.Context, list []rest.Mount) (out []boxlite.Volume, err error) {
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
