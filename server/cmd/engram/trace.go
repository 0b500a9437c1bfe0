package main

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/engramdb/engram/server/internal/tracing"
)

const (
	traceEndpointFlag    = "trace-endpoint"
	traceOff             = "off" // also where the variables of OpenTelemetry name an endpoint
	exampleTraceEndpoint = "http://127.0.0.1:4318"
)

// traceFlags say where spans go.
type traceFlags struct {
	endpoint string
	ratio    float64
}

func (f *traceFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.endpoint, traceEndpointFlag, "", "`URL` of an OpenTelemetry collector that gets traces of the requests over OTLP, for example "+exampleTraceEndpoint+"; \"off\" for none; default what $OTEL_EXPORTER_OTLP_ENDPOINT says, then none")
	flags.Float64Var(&f.ratio, "trace-ratio", 1, "which part of the traces is sent, 0 to 1, where the caller has not decided it")
}

func (f *traceFlags) config() (tracing.Config, error) {
	c := tracing.Config{Endpoint: f.endpoint, Ratio: f.ratio}
	if c.Endpoint == traceOff {
		c.Endpoint = ""
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf("--%s, --trace-ratio: %w", traceEndpointFlag, err)
	}
	return c, nil
}

// open returns what makes the spans of a server, nil where no endpoint is named.
func (f *traceFlags) open(ctx context.Context, logger *zap.Logger) (*tracing.Provider, error) {
	c, err := f.config()
	if err != nil {
		return nil, err
	}
	return tracing.Open(ctx, c, logger.Named("traces"))
}
