package restapi

import (
	"net/http"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
)

// Bounds of one box, as the Go API checks them.
const (
	maxCPUs      = 255
	maxDiskGB    = 1 << 10
	defaultImage = "alpine:latest"
)

// extensions names what goes beyond BoxLite's dialect.
var extensions = []string{
	"security", "host_volumes", "labels", "hostname", "auto_remove", "exec.user", "exec.stdin", "exec.limits",
	"exec.size", "attach.offsets", "attach.readers", "executions.list", "files.raw", "files.range", "sync", "logs",
	"images", "images.transfer", "images.progress", "info", "details", "lease", "main", "files.tree", "network.connect", "attach.lossless", "attach.patience", "attach.acks",
	"network.modes", "start.implied", "errors.cause", "volumes.prune", "ports", "egress.deny", "egress.update", "egress.log", "secrets.update", "save_interval", "health_check", "idempotency_key", "prometheus",
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) error {
	l := s.admission.limits
	httpapi.WriteJSON(w, http.StatusOK, rest.Config{
		Version:   boxlite.Version(),
		Overrides: map[string]any{},
		Defaults: map[string]any{
			"image": defaultImage, "cpus": 1, "memory_mib": 512, "disk_size_gb": 10, "auto_stop": 0, "auto_delete": 0,
		},
		Capabilities: map[string]any{
			"linux_capabilities_enabled": true, "max_cpus": maxCPUs, "max_memory_mib": l.MemoryMiB,
			"max_disk_size_gb": maxDiskGB, "max_boxes_per_path_prefix": l.Boxes,
			"max_concurrent_executions": l.Executions, "file_transfer_max_bytes": l.Upload,
			"exec_timeout_max_seconds": int64(maxTimeout.Seconds()), "tty_enabled": true, "streaming_enabled": true,
			"snapshots_enabled": false, "clone_enabled": false, "export_enabled": false, "import_enabled": false,
			"idempotency_key_lifetime": "PT24H",
		},
		Extensions: extensions,
	})
	return nil
}

func (s *Server) me(w http.ResponseWriter, r *http.Request) error {
	who := httpapi.Who(r.Context())
	me := rest.Me{Sub: who.Name, PrincipalType: "service_account", Scopes: who.Scopes}
	if who.Local {
		me.PrincipalType = "user"
	}
	if p := strings.Trim(s.cfg.PathPrefix, "/"); p != "" {
		me.PathPrefix = &p
	}
	httpapi.WriteJSON(w, http.StatusOK, me)
	return nil
}

// info describes the home of the server.
func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	i, err := s.rt.Info(r.Context())
	if err != nil {
		return err
	}
	reply := rest.Info{Version: i.Version, Home: i.Home, Engine: i.Engine, Boxes: map[string]int{}, Images: i.Images, OS: i.OS, Arch: i.Arch}
	for state, n := range i.Boxes {
		reply.Boxes[string(state)] = n
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// engines boots a box with each engine to see that it works.
func (s *Server) engines(w http.ResponseWriter, r *http.Request) error {
	reply := rest.Engines{Engines: []rest.Engine{}}
	for _, e := range s.rt.Engines(r.Context()) {
		one := rest.Engine{Name: e.Name, TookMS: e.Took.Milliseconds()}
		if e.Err != nil {
			one.Error = httpapi.FaultOf(e.Err)
		}
		reply.Engines = append(reply.Engines, one)
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// statusReply answers a probe.
type statusReply struct {
	Status string `json:"status"`
}

// healthz tells that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	httpapi.WriteJSON(w, http.StatusOK, statusReply{"ok"})
	return nil
}

// readyz tells whether requests should come here: the store answers, and the
// server does not end.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) error {
	if s.draining.Load() {
		return httpapi.Engine.Errorf("the server is shutting down")
	}
	if _, err := s.rt.Box(r.Context(), "nosuchbox-readyz"); httpapi.ErrorOf(err).Kind != httpapi.NotFound {
		return httpapi.Engine.Errorf("the store does not answer: %v", err)
	}
	httpapi.WriteJSON(w, http.StatusOK, statusReply{"ready"})
	return nil
}
