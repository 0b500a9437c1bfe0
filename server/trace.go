package server

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/engramdb/engram/server/internal/wire"
)

// Spans are for the operator, as the log is. They hold names of the server's own
// tables, statuses, and the space where it may exist. What a client wrote, beside
// the ids of its own trace, is in none.

// Names of attributes: those that OpenTelemetry has, and our own.
const (
	attributeMethod     = "http.request.method"
	attributeRoute      = "http.route"
	attributeStatus     = "http.response.status_code"
	attributeRPCSystem  = "rpc.system"
	attributeRPCService = "rpc.service"
	attributeRPCMethod  = "rpc.method"
	attributeRPCStatus  = "rpc.grpc.status_code"
	attributeMCPMethod  = "mcp.method.name"
	attributeTool       = "gen_ai.tool.name"
	attributeTransport  = "engram.transport"
	attributeSpace      = "engram.space"
	attributeFallback   = "engram.space.fallback"
	attributeProblem    = "engram.problem"
)

const callToolMethod = "tools/call"

// tracerName is the instrumentation scope of the spans.
const tracerName = "github.com/engramdb/engram/server"

// recordingKey is where the context of a span that is recorded has its tracer.
type recordingKey struct{}

// startSpan begins the span of a request. The values of its field traceparent name
// the caller's span, of which it becomes a child, with a link to the span that the
// context has; without them it is that span's child. The caller's other fields,
// tracestate and baggage, are not read: what they hold would be sent with the span.
func (s *Server) startSpan(ctx context.Context, name string, parents []string) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	if len(parents) == 1 {
		within := trace.SpanContextFromContext(ctx)
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{wire.Traceparent: parents[0]})
		if within.IsValid() && !within.Equal(trace.SpanContextFromContext(ctx)) {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: within}))
		}
	}
	ctx, span := s.tracer.Start(ctx, name, options...)
	if span.IsRecording() {
		ctx = context.WithValue(ctx, recordingKey{}, s.tracer)
	}
	return ctx, span
}

// traceRequest begins the span of a request and returns the request that carries it;
// without a tracer there is none. A span that the context has is the host's.
func (s *Server) traceRequest(r *http.Request, rt route) (*http.Request, trace.Span) {
	if s.tracer == nil {
		return r, nil
	}
	method := methodLabel(r.Method)
	ctx, span := s.startSpan(r.Context(), method+" "+rt.path, r.Header.Values(wire.Traceparent))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String(attributeTransport, transportHTTP),
			attribute.String(attributeMethod, method),
			attribute.String(attributeRoute, rt.path),
		)
	}
	return r.WithContext(ctx), span
}

// methodLabel returns the method, or one name for all that HTTP does not know.
func methodLabel(method string) string {
	known := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch,
		http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace,
	}
	if slices.Contains(known, method) {
		return method
	}
	return "_OTHER"
}

// traceCall begins the span of an RPC, as traceRequest that of a request.
func (s *Server) traceCall(ctx context.Context, method string) (context.Context, trace.Span) {
	if s.tracer == nil {
		return ctx, nil
	}
	name := strings.TrimPrefix(method, "/")
	ctx, span := s.startSpan(ctx, name, metadata.ValueFromIncomingContext(ctx, wire.Traceparent))
	if span.IsRecording() {
		service, rpc, _ := strings.Cut(name, "/")
		span.SetAttributes(
			attribute.String(attributeTransport, transportGRPC),
			attribute.String(attributeRPCSystem, transportGRPC),
			attribute.String(attributeRPCService, service),
			attribute.String(attributeRPCMethod, rpc),
		)
	}
	return ctx, span
}

// traceTool begins the span of a call of a tool: below the span that the call names,
// as the protocol has it, else below that of its request.
func (s *Server) traceTool(ctx context.Context, x *exchange, tool mcpTool, meta mcp.Meta) (context.Context, trace.Span) {
	ctx = trace.ContextWithSpan(ctx, trace.SpanFromContext(x.r.Context()))
	if s.tracer == nil {
		return ctx, nil
	}
	var parents []string
	if named, ok := meta[wire.Traceparent].(string); ok {
		parents = []string{named}
	}
	ctx, span := s.startSpan(ctx, callToolMethod+" "+tool.described.Name, parents)
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String(attributeTransport, transportMCP),
			attribute.String(attributeMCPMethod, callToolMethod),
			attribute.String(attributeTool, tool.described.Name),
		)
	}
	return ctx, span
}

// inLibrary begins the span of one call of the library, below that of its request.
// The function that it returns ends it, with the error of the call: only what is
// the server's fault marks it as failed.
func inLibrary(ctx context.Context, name string) (context.Context, func(error)) {
	tracer, recording := ctx.Value(recordingKey{}).(trace.Tracer)
	if !recording {
		return ctx, func(error) {}
	}
	ctx, span := tracer.Start(ctx, "engram."+name)
	return ctx, func(err error) {
		defer span.End()
		if err == nil {
			return
		}
		k, _ := classify(err)
		span.SetAttributes(attribute.String(attributeProblem, k.slug))
		if k.status >= http.StatusInternalServerError {
			span.SetStatus(otelcodes.Error, k.slug)
		}
	}
}
