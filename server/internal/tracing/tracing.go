// Package tracing sends spans of what a server does to a collector of
// OpenTelemetry, over OTLP (http/protobuf). All of it is for the server's
// operator. Nothing is sent, and nothing runs, unless an endpoint is given.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Variables that OpenTelemetry has for where traces go. The first is a base, to
// which the path is added, the second the whole address.
const (
	baseVariable     = "OTEL_EXPORTER_OTLP_ENDPOINT"
	endpointVariable = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
)

const (
	tracesPath = "/v1/traces" // of an endpoint without a path
	protocol   = "http/protobuf"
	scope      = "github.com/engramdb/engram/server"
	flushBound = 5 * time.Second // for the spans that are left when a server ends
)

// Traceparent is the field of a request that names the caller's span (W3C Trace
// Context).
const Traceparent = "traceparent"

// Config says where spans go and which. The zero value sends none.
type Config struct {
	// Endpoint is the URL of a collector, http or https; without a path,
	// /v1/traces is asked. Empty: none is asked.
	Endpoint string
	// Ratio is which part of the traces is sent whose caller has not decided it,
	// 0 to 1.
	Ratio float64
	// FlushBound is how long Close waits for the collector; default 5 seconds.
	FlushBound time.Duration
}

// StandardEndpoint returns the endpoint that the environment names by the
// variables of OpenTelemetry, and which of them, or nothing.
func StandardEndpoint() (endpoint, variable string) {
	if endpoint = os.Getenv(endpointVariable); endpoint != "" {
		return endpoint, endpointVariable
	}
	base := os.Getenv(baseVariable)
	if base == "" {
		return "", ""
	}
	parsed, err := url.Parse(base)
	if err != nil {
		return base, baseVariable // Validate says what is wrong
	}
	return parsed.JoinPath(tracesPath).String(), baseVariable
}

// Validate returns what is wrong with the configuration, and with what the
// environment says of the protocol.
func (c Config) Validate() error {
	if !(c.Ratio >= 0 && c.Ratio <= 1) {
		return fmt.Errorf("the ratio of traces must be 0 to 1, not %v", c.Ratio)
	}
	if c.Endpoint == "" {
		return nil
	}
	if _, err := c.address(); err != nil {
		return err
	}
	for _, variable := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if asked := os.Getenv(variable); asked != "" {
			if asked != protocol {
				return fmt.Errorf("%s is %q: traces are sent by %s only", variable, asked, protocol)
			}
			break
		}
	}
	return nil
}

// address returns the endpoint with its path.
func (c Config) address() (*url.URL, error) {
	endpoint, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || endpoint.Scheme != "http" && endpoint.Scheme != "https" || endpoint.Host == "":
		return nil, errors.New("the endpoint of traces must look like http://127.0.0.1:4318")
	case endpoint.User != nil:
		return nil, errors.New("the endpoint of traces may hold no credentials: OTEL_EXPORTER_OTLP_HEADERS does")
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = tracesPath
	}
	return endpoint, nil
}

// Tracer makes spans and sends them. A nil *Tracer makes none and costs nothing.
// It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	bound    time.Duration
	cut      context.CancelFunc // ends what is being sent
}

// Open returns a tracer, nil where the configuration names no endpoint. It does
// not ask the collector. Spans are sent in batches, beside the requests that they
// are of; where the collector is away or slow, those that find the queue full
// (2,048 spans) are dropped. The variables of OpenTelemetry say the rest: header
// fields and certificates for the collector, time-outs, sizes of queue and
// batches, attributes of the resource.
func Open(ctx context.Context, c Config, logger *zap.Logger) (*Tracer, error) {
	if err := c.Validate(); err != nil || c.Endpoint == "" {
		return nil, err
	}
	address, err := c.address()
	if err != nil {
		return nil, err
	}
	described, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "engram"), attribute.String("service.version", version())),
		resource.WithFromEnv(),
	)
	if err != nil {
		return nil, fmt.Errorf("describe the server to the collector of traces: %w", err)
	}
	sender, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(address.String()))
	if err != nil {
		return nil, fmt.Errorf("make the exporter of traces: %w", err)
	}
	ended, cut := context.WithCancel(context.Background())
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithResource(described),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Ratio))),
		sdktrace.WithBatcher(&exporter{SpanExporter: sender, ended: ended, logger: logger}),
	)
	bound := c.FlushBound
	if bound == 0 {
		bound = flushBound
	}
	return &Tracer{provider: provider, tracer: provider.Tracer(scope), bound: bound, cut: cut}, nil
}

// version returns that of the module which the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}

// Close sends the spans that are left, for as long as FlushBound, and returns
// after all goroutines of the tracer have ended. Spans that could not be sent are
// in the log and no error.
func (t *Tracer) Close() error {
	if t == nil {
		return nil
	}
	defer t.cut()
	defer time.AfterFunc(t.bound, t.cut).Stop()
	if err := t.provider.Shutdown(context.Background()); err != nil {
		return fmt.Errorf("end the exporter of traces: %w", err)
	}
	return nil
}

// Start begins the span of a request. The values of its field [Traceparent] name
// the caller's span, of which it becomes a child, with a link to the span that the
// context has; without them it is that span's child. The caller's other fields,
// tracestate and baggage, are not read: what they hold would be sent with the span.
// The context that is returned carries the span. Without a tracer, and where the
// trace is not sent, the span records nothing.
func (t *Tracer) Start(ctx context.Context, name string, parents []string) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer)}
	if len(parents) == 1 {
		within := trace.SpanContextFromContext(ctx)
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{Traceparent: parents[0]})
		if within.IsValid() && !within.Equal(trace.SpanContextFromContext(ctx)) {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: within}))
		}
	}
	return t.tracer.Start(ctx, name, options...)
}

// Records reports whether the context has a span of a Tracer that is recorded. One of
// the program that the server is part of is none: it is neither ours to end, nor do
// spans of ours belong below it where no tracer is asked for.
func Records(ctx context.Context) bool {
	span, ok := trace.SpanFromContext(ctx).(sdktrace.ReadOnlySpan)
	return ok && span.InstrumentationScope().Name == scope
}

// StartChild begins a span below that of the context, for which Records holds.
func StartChild(ctx context.Context, name string) (context.Context, trace.Span) {
	return trace.SpanFromContext(ctx).TracerProvider().Tracer(scope).Start(ctx, name)
}

// exporter sends spans for as long as the tracer is not cut off, and tells the log
// when that begins to fail and when it works again. It is called by one goroutine
// at a time.
type exporter struct {
	sdktrace.SpanExporter

	ended  context.Context //nolint:containedctx // ends what is being sent
	logger *zap.Logger
	lost   int // spans since it last worked
}

// ExportSpans implements sdktrace.SpanExporter. A failure is logged here: the SDK
// would hand it to a handler of the whole process.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.ended, cancel)()
	err := e.SpanExporter.ExportSpans(ctx, spans)
	switch {
	case err != nil:
		if e.lost == 0 {
			e.logger.Warn("traces are lost", zap.Error(err))
		}
		e.lost += len(spans)
	case e.lost > 0:
		e.logger.Info("traces are sent again", zap.Int("lost", e.lost))
		e.lost = 0
	}
	return nil
}
