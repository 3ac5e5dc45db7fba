package restapi

import (
	"net/http"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

func imageOf(m boxlite.Image) imageReply {
	repo, tag := m.Ref, ""
	if i := strings.LastIndexByte(m.Ref, ':'); i > strings.LastIndexByte(m.Ref, '/') {
		repo, tag = m.Ref[:i], m.Ref[i+1:]
	}
	return imageReply{
		Reference: m.Ref, Repository: repo, Tag: tag, ID: m.ConfigDigest, CachedAt: m.Pulled.UTC(),
		SizeBytes: m.Size, Digest: m.Digest, Layers: m.Layers,
	}
}

func (s *Server) pullImage(w http.ResponseWriter, r *http.Request) error {
	var req pullRequest
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	if req.Reference == "" {
		return httpapi.InvalidArgument.Errorf("reference: is missing")
	}
	m, err := s.rt.Images().Pull(r.Context(), req.Reference, nil)
	if err != nil {
		if e := httpapi.ErrorOf(err); e.Kind == httpapi.NotFound {
			return &httpapi.Error{Kind: httpapi.Image, Message: e.Message, Err: err}
		}
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, imageOf(m))
	return nil
}

func (s *Server) listImages(w http.ResponseWriter, r *http.Request) error {
	ms, err := s.rt.Images().List(r.Context())
	if err != nil {
		return err
	}
	reply := imagesReply{Images: []imageReply{}}
	for _, m := range ms {
		reply.Images = append(reply.Images, imageOf(m))
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
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
	httpapi.WriteJSON(w, http.StatusOK, removedReply{n})
	return nil
}
