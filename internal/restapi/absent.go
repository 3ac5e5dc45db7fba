package restapi

import (
	"net/http"

	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// Advice on what a client that wants one of the absent can do.
const (
	noSnapshots = "there are no snapshots of boxes here; a stopped box keeps its files, and GET /v1/boxes/{id}/files copies them out"
	noClone     = "boxes are not cloned here; create another from the same image, and copy files over with GET and PUT /v1/boxes/{id}/files"
	noExport    = "boxes are not exported here; copy files out with GET /v1/boxes/{id}/files, or save an image with POST /v1/images/save"
	noImport    = "boxes are not imported here; load an image with POST /v1/images/load, and create a box from it"
)

// absent is every operation of BoxLite's that there is not. GET /v1/config says
// so, and they have routes all the same: clients take "nothing is there" for a
// box that is not.
func (s *Server) absent() []httpapi.Route {
	return []httpapi.Route{
		{Pattern: "POST /v1/boxes/{id}/snapshots", Scope: "box:write", Handle: s.without(noSnapshots)},
		{Pattern: "GET /v1/boxes/{id}/snapshots", Scope: "box:read", Handle: s.without(noSnapshots)},
		{Pattern: "GET /v1/boxes/{id}/snapshots/{name}", Scope: "box:read", Handle: s.without(noSnapshots)},
		{Pattern: "DELETE /v1/boxes/{id}/snapshots/{name}", Scope: "box:write", Handle: s.without(noSnapshots)},
		{Pattern: "POST /v1/boxes/{id}/snapshots/{name}/restore", Scope: "box:write", Handle: s.without(noSnapshots)},
		{Pattern: "POST /v1/boxes/{id}/clone", Scope: "box:write", Handle: s.without(noClone)},
		{Pattern: "POST /v1/boxes/{id}/export", Scope: "box:read", Handle: s.without(noExport)},
		{Pattern: "POST /v1/boxes/import", Scope: "box:write", Handle: s.without(noImport)},
	}
}

// without refuses what is not here. That a box is not is said first.
func (s *Server) without(advice string) func(http.ResponseWriter, *http.Request) error {
	return func(_ http.ResponseWriter, r *http.Request) error {
		if r.PathValue("id") != "" {
			if _, err := s.box(r); err != nil {
				return err
			}
		}
		return httpapi.Unsupported.Errorf("%s", advice)
	}
}
