package restapi

import (
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boxlite-go/boxlite"
	"github.com/boxlite-go/boxlite/internal/httpapi"
	"github.com/boxlite-go/boxlite/internal/rest"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics counts what this server has done since it started.
type metrics struct {
	boxesCreated, boxesFailed, boxesStopped atomic.Int64
	commands, execErrors                    atomic.Int64
	sockets                                 atomic.Int64

	requests *prometheus.HistogramVec
	handler  http.Handler

	mu    sync.Mutex
	boxes map[string]*boxCounts
}

// boxCounts is what was done with one box.
type boxCounts struct {
	commands, errors int64
	boot             time.Duration // of the last start through this server
	cpu              time.Duration // when it was last asked
	at               time.Time
}

func newMetrics() *metrics {
	m := &metrics{boxes: map[string]*boxCounts{}}
	reg := prometheus.NewRegistry()
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "boxlite_http_request_duration_seconds", Help: "Requests by route and status.",
		// From the cheapest answer to a start that waits for its turn.
		Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
	}, []string{"route", "status"})
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), m.requests)
	for _, c := range []struct {
		name, help string
		v          *atomic.Int64
	}{
		{"boxlite_boxes_created_total", "Boxes created through this server.", &m.boxesCreated},
		{"boxlite_boxes_failed_total", "Boxes that could not be created or started.", &m.boxesFailed},
		{"boxlite_boxes_stopped_total", "Boxes stopped through this server.", &m.boxesStopped},
		{"boxlite_commands_executed_total", "Commands started through this server.", &m.commands},
		{"boxlite_exec_errors_total", "Commands that could not be started.", &m.execErrors},
	} {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: c.name, Help: c.help},
			func() float64 { return float64(c.v.Load()) }))
	}
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "boxlite_attached_sockets", Help: "WebSockets that follow an execution.",
	}, func() float64 { return float64(m.sockets.Load()) }))
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

func (m *metrics) observe(pattern string, status int, d time.Duration) {
	if pattern == "" {
		pattern = "none"
	}
	m.requests.WithLabelValues(pattern, strconv.Itoa(status)).Observe(d.Seconds())
}

func (m *metrics) created(err error) {
	if err != nil {
		m.boxesFailed.Add(1)
		return
	}
	m.boxesCreated.Add(1)
}

func (m *metrics) started(id string, d time.Duration, err error) {
	if err != nil {
		m.boxesFailed.Add(1)
		return
	}
	m.box(id, func(c *boxCounts) { c.boot, c.cpu, c.at = d, 0, time.Now() })
}

func (m *metrics) stopped() { m.boxesStopped.Add(1) }

func (m *metrics) executed(id string, err error) {
	if err != nil {
		m.execErrors.Add(1)
		m.box(id, func(c *boxCounts) { c.errors++ })
		return
	}
	m.commands.Add(1)
	m.box(id, func(c *boxCounts) { c.commands++ })
}

func (m *metrics) box(id string, f func(*boxCounts)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boxes[id] == nil {
		m.boxes[id] = &boxCounts{}
	}
	f(m.boxes[id])
}

func (m *metrics) forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.boxes, id)
}

func (s *Server) prometheus(w http.ResponseWriter, r *http.Request) error {
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

type runtimeMetricsReply struct {
	BoxesCreatedTotal     int64 `json:"boxes_created_total"`
	BoxesFailedTotal      int64 `json:"boxes_failed_total"`
	BoxesStoppedTotal     int64 `json:"boxes_stopped_total"`
	NumRunningBoxes       int   `json:"num_running_boxes"`
	TotalCommandsExecuted int64 `json:"total_commands_executed"`
	TotalExecErrors       int64 `json:"total_exec_errors"`
}

func (s *Server) runtimeMetrics(w http.ResponseWriter, r *http.Request) error {
	infos, err := s.rt.Boxes(r.Context())
	if err != nil {
		return err
	}
	m := s.metrics
	reply := runtimeMetricsReply{
		BoxesCreatedTotal: m.boxesCreated.Load(), BoxesFailedTotal: m.boxesFailed.Load(),
		BoxesStoppedTotal: m.boxesStopped.Load(), TotalCommandsExecuted: m.commands.Load(),
		TotalExecErrors: m.execErrors.Load(),
	}
	for _, i := range infos {
		if i.State == boxlite.StateRunning {
			reply.NumRunningBoxes++
		}
	}
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// boxMetrics does not start a box: one that does not run uses nothing.
func (s *Server) boxMetrics(w http.ResponseWriter, r *http.Request) error {
	b, err := s.box(r)
	if err != nil {
		return err
	}
	info, err := b.Info(r.Context())
	if err != nil {
		return err
	}
	var reply rest.Metrics
	var st boxlite.Stats
	if info.State == boxlite.StateRunning {
		if st, err = b.Stats(r.Context()); err != nil {
			return err
		}
		reply.MemoryBytes, reply.MemoryLimitBytes = &st.Memory, st.MemoryLimit
		reply.CPUSeconds, reply.UptimeSeconds = st.CPU.Seconds(), st.Uptime.Seconds()
		reply.Executions, reply.OOMKills = st.Executions, st.OOMKills
		n := st.Network
		reply.NetworkSent, reply.NetworkReceived, reply.NetworkConnections, reply.NetworkRefused = &n.Sent, &n.Received, &n.Connections, n.Refused
		reply.NetworkOpen, reply.NetworkLookups = n.Open, n.Lookups
		reply.BytesSentTotal, reply.BytesReceivedTotal = n.Sent, n.Received
	}
	s.metrics.box(b.ID(), func(c *boxCounts) {
		reply.CommandsExecutedTotal, reply.ExecErrorsTotal = c.commands, c.errors
		if c.boot > 0 {
			reply.BootTiming = &rest.BootTiming{TotalCreateMS: c.boot.Milliseconds()}
		}
		if reply.MemoryBytes != nil {
			percent := c.usage(st, time.Now())
			reply.CPUPercent = &percent
		}
	})
	httpapi.WriteJSON(w, http.StatusOK, reply)
	return nil
}

// usage is the processor time since the last question, or since the start, in
// percent of one processor.
func (c *boxCounts) usage(st boxlite.Stats, now time.Time) float64 {
	cpu, wall := st.CPU-c.cpu, now.Sub(c.at)
	if c.at.IsZero() || cpu < 0 || wall > st.Uptime {
		cpu, wall = st.CPU, st.Uptime
	}
	c.cpu, c.at = st.CPU, now
	if wall <= 0 {
		return 0
	}
	return 100 * float64(cpu) / float64(wall)
}
