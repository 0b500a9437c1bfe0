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
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
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
	flushBound = 5 * time.Second // for the spans that are left when a server ends
)

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

// Provider makes tracers whose spans it sends. It is safe for concurrent use.
type Provider struct {
	*sdktrace.TracerProvider

	bound time.Duration
	cut   context.CancelFunc // ends what is being sent
}

// Open returns a provider, nil where the configuration names no endpoint. It does
// not ask the collector. Spans are sent in batches, beside the requests that they
// are of; where the collector is away or slow, those that find the queue full
// (2,048 spans) are dropped. The variables of OpenTelemetry say the rest: header
// fields and certificates for the collector, time-outs, sizes of queue and
// batches, attributes of the resource.
func Open(ctx context.Context, c Config, logger *zap.Logger) (*Provider, error) {
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
	return &Provider{provider, bound, cut}, nil
}

// version returns that of the module which the program was built from.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return ""
}

// Close sends the spans that are left, for as long as FlushBound, and returns
// after all goroutines of the provider have ended. Spans that could not be sent are
// in the log and no error. A nil *Provider has nothing to end.
func (p *Provider) Close() error {
	if p == nil {
		return nil
	}
	defer p.cut()
	defer time.AfterFunc(p.bound, p.cut).Stop()
	if err := p.Shutdown(context.Background()); err != nil {
		return fmt.Errorf("end the exporter of traces: %w", err)
	}
	return nil
}

// exporter sends spans for as long as the provider is not cut off, and tells the log
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
