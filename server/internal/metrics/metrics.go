// Package metrics counts what a server does, for Prometheus. All of it is for
// the server's operator: the names of busy spaces are labels.
package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/engramdb/engram"
)

// defaultBusiest is how many spaces have a label of their own.
const defaultBusiest = 20

// Request is one request that was answered, or a stream that has ended.
type Request struct {
	Transport string         // "http", "grpc" or "mcp"
	Route     string         // as the transport's table has it: never what the client sent
	Status    string         // of HTTP, the code of gRPC, or what of HTTP a tool's answer would have
	Problem   string         // slug of the error; empty: none
	Space     engram.SpaceID // that it was about and that exists; empty: none
	Fallback  bool           // it named no space and got the default one
	Streamed  bool           // how long it lasted says nothing
	Duration  time.Duration
	Degraded  string // why the recall that it asked for was not, or not fully, by meaning; empty: it was, or is none
}

// Metrics are the counters of one server, in a registry of their own. It is safe
// for concurrent use.
type Metrics struct {
	registry  *prometheus.Registry
	logger    *zap.Logger
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	problems  *prometheus.CounterVec
	fallbacks *prometheus.CounterVec
	degraded  *prometheus.CounterVec
	spaces    *busiest
}

// New returns metrics that also show the figures of the store and of what is under
// way, which the functions return. The labels of all of them are bounded.
func New(stats func() engram.RegistryStats, underWay func() UnderWay, logger *zap.Logger) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		logger:   logger,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "engram_requests_total", Help: "Requests, RPCs and calls of tools that were answered.",
		}, []string{"transport", "route", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "engram_request_duration_seconds", Help: "Time from a request's header to the end of its answer. Streams are not in it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2.5, 14), // 0.1 ms to 15 s
		}, []string{"transport", "route"}),
		problems: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "engram_problems_total", Help: "Requests that were answered with a problem, by its type.",
		}, []string{"transport", "problem"}),
		fallbacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "engram_space_fallbacks_total", Help: "Requests that named no space and got the default one.",
		}, []string{"transport"}),
		degraded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "engram_recalls_degraded_total", Help: "Recalls whose text was not, or not fully, compared by meaning, by the reason in their plan.",
		}, []string{"transport", "reason"}),
		spaces: newBusiest(defaultBusiest),
	}
	m.registry.MustRegister(
		m.requests, m.durations, m.problems, m.fallbacks, m.degraded, m.spaces,
		collector[engram.RegistryStats]{storeFigures, stats}, collector[UnderWay]{underWayFigures, underWay},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Observe counts a request.
func (m *Metrics) Observe(r Request) {
	m.requests.WithLabelValues(r.Transport, r.Route, r.Status).Inc()
	if r.Streamed {
		r.Duration = 0
	} else {
		m.durations.WithLabelValues(r.Transport, r.Route).Observe(r.Duration.Seconds())
	}
	if r.Problem != "" {
		m.problems.WithLabelValues(r.Transport, r.Problem).Inc()
	}
	if r.Fallback {
		m.fallbacks.WithLabelValues(r.Transport).Inc()
	}
	if r.Degraded != "" {
		m.degraded.WithLabelValues(r.Transport, r.Degraded).Inc()
	}
	if r.Space != "" {
		m.spaces.observe(r.Space, r.Problem != "", r.Duration)
	}
}

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: zap.NewStdLog(m.logger)})
}
