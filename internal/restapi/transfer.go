package restapi

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// typeLines is the media type of an answer with a JSON value in each line.
const typeLines = "application/x-ndjson"

// pullImage gets an image. A client that accepts lines is told how far it is.
func (s *Server) pullImage(w http.ResponseWriter, r *http.Request) error {
	var req rest.Pull
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	if req.Reference == "" {
		return httpapi.InvalidArgument.Errorf("reference: is missing")
	}
	pull := s.rt.Images().Pull
	if req.Missing {
		pull = s.rt.Images().Ensure
	}
	if strings.Contains(r.Header.Get("Accept"), typeLines) {
		s.pullLines(w, r, func(progress func(boxlite.Progress)) (boxlite.Image, error) {
			return pull(r.Context(), req.Reference, progress)
		})
		return nil
	}
	m, err := pull(r.Context(), req.Reference, nil)
	if err != nil {
		return pullError(err)
	}
	httpapi.WriteJSON(w, http.StatusOK, imageOf(m))
	return nil
}

// pullError says of an image that is not there that it is the image.
func pullError(err error) error {
	if e := httpapi.ErrorOf(err); e.Kind == httpapi.NotFound {
		return &httpapi.Error{Kind: httpapi.Image, Message: e.Message, Err: err}
	}
	return err
}

// pullLines answers with a line for each moment of a pull, and the last for its
// end. The status has been sent by then, so an error is a line too.
func (s *Server) pullLines(w http.ResponseWriter, r *http.Request, pull func(func(boxlite.Progress)) (boxlite.Image, error)) {
	w.Header().Set("Content-Type", typeLines)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rc := http.NewResponseController(w)
	enc := json.NewEncoder(&stalling{w, rc})
	var mu sync.Mutex
	line := func(l rest.PullLine) {
		mu.Lock()
		defer mu.Unlock()
		_ = enc.Encode(l) // who hung up need not know
		_ = rc.Flush()
	}
	m, err := pull(func(p boxlite.Progress) {
		line(rest.PullLine{Progress: &rest.Progress{Reference: p.Ref, Phase: p.Phase, Done: p.Done, Total: p.Total}})
	})
	if err != nil {
		s.log.Info("image not pulled", slog.String("request", httpapi.RequestID(r.Context())), slog.Any("err", err))
		line(rest.PullLine{Error: httpapi.FaultOf(pullError(err))})
		return
	}
	image := imageOf(m)
	line(rest.PullLine{Image: &image})
}

// loadImages reads an archive of images.
func (s *Server) loadImages(w http.ResponseWriter, r *http.Request) error {
	list, err := s.rt.Images().LoadFrom(r.Context(), s.upload(w, r))
	if err != nil {
		return uploadError(err)
	}
	httpapi.WriteJSON(w, http.StatusOK, imagesOf(list))
	return nil
}

// importImage makes an image of a root file system.
func (s *Server) importImage(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if q.Get("reference") == "" {
		return httpapi.InvalidArgument.Errorf("reference: is missing")
	}
	m, err := s.rt.Images().Import(r.Context(), s.upload(w, r), q.Get("reference"), boxlite.ImageConfig{
		Entrypoint: q["entrypoint"], Cmd: q["cmd"], Env: q["env"], WorkingDir: q.Get("working_dir"), User: q.Get("user"),
	})
	if err != nil {
		return uploadError(err)
	}
	httpapi.WriteJSON(w, http.StatusOK, imageOf(m))
	return nil
}

// saveImages sends images as an archive.
func (s *Server) saveImages(w http.ResponseWriter, r *http.Request) error {
	var req rest.SaveImages
	if err := httpapi.Decode(w, r, &req); err != nil {
		return err
	}
	if len(req.References) == 0 {
		return httpapi.InvalidArgument.Errorf("references: is missing")
	}
	out := &lateHeader{w: &stalling{w, http.NewResponseController(w)}, kind: typeTar}
	err := s.rt.Images().Save(r.Context(), out, req.References, req.OCI)
	if err != nil && out.begun {
		s.log.Warn("images not saved", slog.Any("err", err))
		panic(http.ErrAbortHandler) // the answer is not whole: cut it
	}
	return err
}

// lateHeader sets the type of an answer with its first bytes, so that until
// then there can be another one.
type lateHeader struct {
	w     *stalling
	kind  string
	begun bool
}

func (l *lateHeader) Write(p []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", l.kind)
		l.w.Header().Set("X-Content-Type-Options", "nosniff")
	}
	return l.w.Write(p)
}

// pruneImages removes what nobody needs.
func (s *Server) pruneImages(w http.ResponseWriter, r *http.Request) error {
	var req rest.PruneImages
	if err := httpapi.Decode(w, r, &req, true); err != nil {
		return err
	}
	list, freed, err := s.rt.Images().Prune(r.Context(), req.All)
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, rest.PrunedImages{Images: imagesOf(list).Images, FreedBytes: freed})
	return nil
}
