package restapi

import (
	"net/http"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

func imageOf(m boxlite.Image) rest.Image {
	repo, tag := m.Ref, ""
	if i := strings.LastIndexByte(m.Ref, ':'); i > strings.LastIndexByte(m.Ref, '/') {
		repo, tag = m.Ref[:i], m.Ref[i+1:]
	}
	return rest.Image{
		Reference: m.Ref, Repository: repo, Tag: tag, ID: m.ConfigDigest, CachedAt: m.Pulled.UTC(),
		SizeBytes: m.Size, Digest: m.Digest, Layers: m.Layers, CreatedAt: when(m.Created), Platform: m.Platform,
		Config: (*rest.ImageConfig)(&m.Config),
	}
}

func (s *Server) listImages(w http.ResponseWriter, r *http.Request) error {
	ms, err := s.rt.Images().List(r.Context())
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, imagesOf(ms))
	return nil
}

func imagesOf(list []boxlite.Image) rest.Images {
	reply := rest.Images{Images: []rest.Image{}}
	for _, m := range list {
		reply.Images = append(reply.Images, imageOf(m))
	}
	return reply
}

func (s *Server) getImage(w http.ResponseWriter, r *http.Request) error {
	m, err := s.rt.Images().Get(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	httpapi.WriteJSON(w, http.StatusOK, imageOf(m))
	return nil
}

func (s *Server) removeImage(w http.ResponseWriter, r *http.Request) error {
	n, err := s.rt.Images().Remove(r.Context(), r.PathValue("ref"))
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, rest.Removed{FreedBytes: n})
	return nil
}
