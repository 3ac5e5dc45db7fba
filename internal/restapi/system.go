package restapi

import (
	"net/http"
	"strings"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
)

// configReply is what the server can do.
type configReply struct {
	Version      string         `json:"version"`
	Defaults     map[string]any `json:"defaults"`
	Overrides    map[string]any `json:"overrides"`
	Capabilities map[string]any `json:"capabilities"`
	Extensions   []string       `json:"extensions"`
}

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
	"images", "ports", "egress.deny", "egress.update", "egress.log", "secrets.update", "save_interval", "idempotency_key", "prometheus",
}

func (s *Server) config(w http.ResponseWriter, _ *http.Request) error {
	l := s.admission.limits
	httpapi.WriteJSON(w, http.StatusOK, configReply{
		Version:   boxlite.Version(),
		Overrides: map[string]any{},
		Defaults: map[string]any{
			"image": defaultImage, "cpus": 1, "memory_mib": 512, "disk_size_gb": 10, "auto_stop": 0, "auto_delete": 0,
		},
		Capabilities: map[string]any{
			"linux_capabilities_enabled": false, "max_cpus": maxCPUs, "max_memory_mib": l.MemoryMiB,
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

// meReply is who asks.
type meReply struct {
	Sub           string   `json:"sub"`
	PrincipalType string   `json:"principal_type"`
	Scopes        []string `json:"scopes"`
	PathPrefix    *string  `json:"path_prefix"`
	ExpiresAt     *string  `json:"expires_at"`
}

func (s *Server) me(w http.ResponseWriter, r *http.Request) error {
	who := httpapi.Who(r.Context())
	me := meReply{Sub: who.Name, PrincipalType: "service_account", Scopes: who.Scopes}
	if who.Local {
		me.PrincipalType = "user"
	}
	if p := strings.Trim(s.cfg.PathPrefix, "/"); p != "" {
		me.PathPrefix = &p
	}
	httpapi.WriteJSON(w, http.StatusOK, me)
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
