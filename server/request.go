package server

import (
	"errors"
	"runtime/debug"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/metrics"
)

// request is what every transport knows of a request, be it one of HTTP, an RPC, one
// message of a stream whose messages each name a space, or a call of a tool.
type request struct {
	began     time.Time
	span      trace.Span         // nil: it has none
	principal *auth.Principal    // who sends it; nil on a public route
	refused   string             // why its credential does not count, for the log only
	space     engram.SpaceID     // that it means, once known
	fallback  bool               // it named none
	streamed  bool               // how long it lasts says nothing
	problem   string             // slug of the error that is the answer
	degraded  engram.Degradation // of the recall that it asked for
	held      held
}

// outcome is how a request ended, in the words of its transport.
type outcome struct {
	transport string
	route     string // as the transport's table has it: never what the client sent
	status    string
	fault     string // of the server; empty: there is none
}

// ended is a request whose answer has been given, or that has none.
type ended interface {
	shared() *request
	outcome() outcome
	spanAttributes() []attribute.KeyValue
	logFields() []zap.Field // nil: the log does not hear of it
}

func (r *request) shared() *request { return r }

// finish tells the trace, the log and the metrics of a request. The first and the last
// hear of its space only where that exists: no name that a client made up becomes a
// label.
func (s *Server) finish(e ended) {
	r, o := e.shared(), e.outcome()
	s.release(r)
	took := time.Since(r.began)
	existing := s.existing(r)
	if r.span != nil {
		r.describeSpan(existing, o.fault, e.spanAttributes)
	}
	if entry := s.options.Logger.Check(zap.InfoLevel, "request"); entry != nil {
		if fields := e.logFields(); fields != nil {
			entry.Write(append(fields,
				zap.String("transport", o.transport),
				zap.String("route", o.route),
				zap.String("caller", r.caller()),
				zap.String("space", string(r.space)),
				zap.Bool("fallback", r.fallback),
				zap.String("problem", r.problem),
				r.refusal(),
				zap.Duration("duration", took),
			)...)
		}
	}
	s.metrics.Observe(metrics.Request{
		Transport: o.transport, Route: o.route, Status: o.status, Problem: r.problem,
		Space: existing, Fallback: r.fallback, Streamed: r.streamed, Duration: took,
		Degraded: string(r.degraded),
	})
}

// caller returns the name of who sends the request, where somebody is asked for it.
func (r *request) caller() string {
	if r.principal == nil {
		return ""
	}
	return r.principal.Name()
}

// refusal says in the log why the credential of a request does not count.
func (r *request) refusal() zap.Field {
	if r.refused == "" {
		return zap.Skip()
	}
	return zap.String("refused", r.refused)
}

// existing returns the space of a request that has ended, empty where there is none
// of that id. Who was not admitted to it does not make it worth a look.
func (s *Server) existing(r *request) engram.SpaceID {
	switch {
	case r.space == "" || r.problem == "":
		return r.space
	case slices.Contains([]string{
		"space-not-found", kindForbidden.slug, kindUnauthenticated.slug, kindRateLimited.slug, kindUnderWay.slug,
	}, r.problem):
		return ""
	}
	if !s.exists(r.space) {
		return ""
	}
	return r.space
}

// exists reports whether there is a space of that id. One that is being made is none
// yet, and is not waited for: an import may take hours.
func (s *Server) exists(id engram.SpaceID) bool {
	for first := range s.registry.Spaces(auth.Before(id)) {
		return first == id
	}
	return false
}

// survive runs what a client has asked for. A panic ends that, not the process, and is
// logged in full: the error says only that there was one.
func (s *Server) survive(asked zap.Field, run func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.options.Logger.Error("panic in a request", asked, zap.Any("panic", cause), zap.ByteString("stack", debug.Stack()))
			err = errors.New("panic")
		}
	}()
	return run()
}

// describeSpan notes in the span how the request ended, and ends it. What is the
// server's fault marks it as failed.
func (r *request) describeSpan(existing engram.SpaceID, fault string, attributes func() []attribute.KeyValue) {
	defer r.span.End()
	if !r.span.IsRecording() {
		return
	}
	r.span.SetAttributes(attributes()...)
	if existing != "" {
		r.span.SetAttributes(attribute.String(attributeSpace, string(existing)))
	}
	if r.fallback {
		r.span.SetAttributes(attribute.Bool(attributeFallback, true))
	}
	if r.problem != "" {
		r.span.SetAttributes(attribute.String(attributeProblem, r.problem))
	}
	if fault != "" {
		r.span.SetStatus(otelcodes.Error, fault)
	}
}
