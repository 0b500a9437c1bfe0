package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/console"
	"github.com/engramdb/engram/server/internal/limit"
	"github.com/engramdb/engram/server/internal/metrics"
)

// Bounds on what a connection may cost before a handler runs.
const (
	readHeaderTimeout = 10 * time.Second  // from the first byte of a request to the end of its header
	bodyTimeout       = 30 * time.Second  // to read a request's body
	writeTimeout      = 30 * time.Second  // to write a response
	idleTimeout       = 120 * time.Second // of a kept connection between two requests
	maxHeaderBytes    = 16 << 10          // of a request's header
)

const (
	defaultDrainTimeout = 10 * time.Second
	defaultImportBytes  = 64 << 30
	heartbeat           = 15 * time.Second // between the signs of life of an event stream in which nothing happens
)

// Defaults of the options of these names.
const (
	DefaultMaxConnections        = 16384
	DefaultMaxAddressConnections = 4096
	DefaultMaxCallerRequests     = 4096
	DefaultMaxBodyBytes          = 512 << 20
)

// MinMaxBodyBytes is the least Options.MaxBodyBytes with which every request has room.
const MinMaxBodyBytes = 2 * maxRememberBody

// Options of a server. The zero value is the safe default.
type Options struct {
	// RequireSpace refuses a request that names no space, instead of taking the
	// default space.
	RequireSpace bool
	// AutoCreate lets a write of memories create the space it names, unless it is
	// refused, or expects something to be there (If-Match, expect_seq). The space is
	// created first: where the write then fails, as on a full or failing disk, or its
	// caller leaves, the space stays, empty.
	AutoCreate bool
	// NoConsole answers the paths of the web console as if nothing were there.
	NoConsole bool
	// Hosts are the names, beside localhost and addresses, by which clients may
	// ask the server; [AnyHost] takes all. Others are refused: a web page could
	// otherwise reach the server by a name of its own (DNS rebinding).
	Hosts []string
	// Auth says who may do what; nil asks nobody for credentials and lets
	// everybody do everything. It stays the caller's to close after Serve has
	// returned.
	Auth *Auth
	// TracerProvider makes the spans of the requests; nil makes none. It says which
	// of them are recorded and where they go, for example to a collector over OTLP.
	// It stays the caller's to shut down after Serve has returned.
	TracerProvider trace.TracerProvider
	// SpaceRate and CallerRate bound the requests a second for each space, and of
	// each credential that Auth asks for; default no limit.
	SpaceRate, CallerRate Rate
	// MaxConnections bounds the connections of clients, MaxAddressConnections those
	// of one address, or of one network of 64 bits of IPv6. Defaults 16,384 and 4,096.
	MaxConnections, MaxAddressConnections int
	// MaxCallerRequests bounds the requests, streams among them, that one credential
	// has under way, or, where nobody is asked for one, one address; default 4,096.
	MaxCallerRequests int
	// MaxBodyBytes bounds the memory of the bodies of requests that are under way, of
	// what reads are answered with and of events on their way, of which one caller gets
	// at most half; default 512 MiB. Imports are not kept.
	MaxBodyBytes int64
	// MaxImportBytes bounds the body of an import; default 64 GiB.
	MaxImportBytes int64
	// DrainTimeout is how long Serve waits, once it is told to end, for requests
	// that are under way; default 10 seconds.
	DrainTimeout time.Duration
	// Logger hears of every request and of failures; default none. Contents and
	// embeddings are never logged.
	Logger *zap.Logger
}

// Rate is how many requests are let through. The zero Rate is no limit.
type Rate struct {
	// PerSecond is how many a second in the long run, at most 1e9; 0 is no limit.
	PerSecond float64
	// Burst is how many at once; default as many as in a second, at least one.
	Burst int
}

func (r Rate) limiter() *limit.Limiter { return limit.New(r.PerSecond, r.Burst) }

func (o Options) withDefaults() Options {
	o.DrainTimeout = cmp.Or(o.DrainTimeout, defaultDrainTimeout)
	o.MaxConnections = cmp.Or(o.MaxConnections, DefaultMaxConnections)
	o.MaxAddressConnections = cmp.Or(o.MaxAddressConnections, DefaultMaxAddressConnections)
	o.MaxCallerRequests = cmp.Or(o.MaxCallerRequests, DefaultMaxCallerRequests)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, DefaultMaxBodyBytes)
	o.MaxImportBytes = cmp.Or(o.MaxImportBytes, defaultImportBytes)
	o.Hosts = slices.Clone(o.Hosts)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	return o
}

// Server answers HTTP requests and RPCs from one registry. It is safe for concurrent use.
type Server struct {
	registry  *engram.Registry
	options   Options
	mux       *http.ServeMux
	origins   *http.CrossOriginProtection
	console   map[string]console.File
	rules     map[string]rule // of RPCs
	receivers sync.WaitGroup  // of streams of writes and imports; they end just after their streams
	fallbacks fallbacks
	degraded  degradedRecalls
	underWay  *underWay
	metrics   *metrics.Metrics
	tracer    trace.Tracer // nil: no spans
	spaceRate *limit.Limiter
	callers   *limit.Limiter
	mcp       http.Handler
	streams   atomic.Int64 // of events, open
	epoch     uint32       // of the registry

	turns *turns // of event streams

	draining atomic.Bool
	drained  context.Context //nolint:containedctx // ends, with ErrClosed, once it is draining: streams end
	drain    context.CancelCauseFunc

	// The constants of these names; shorter in tests.
	readHeaderTimeout, bodyTimeout, writeTimeout, heartbeat time.Duration
}

// New returns a server for the registry, which stays the caller's to close
// after Serve has returned.
func New(registry *engram.Registry, options Options) *Server {
	drained, drain := context.WithCancelCause(context.Background())
	options = options.withDefaults()
	underWay := newUnderWay(options)
	s := &Server{
		registry: registry,
		options:  options,
		underWay: underWay,
		metrics:  metrics.New(registry.Stats, underWay.figures, options.Logger),
		mux:      http.NewServeMux(),
		origins:  http.NewCrossOriginProtection(),
		console:  console.Files(),
		rules:    rules(),
		turns:    newTurns(),
		epoch:    registry.Stats().Epoch,
		drained:  drained,
		drain:    drain,

		spaceRate: options.SpaceRate.limiter(),
		callers:   options.CallerRate.limiter(),

		readHeaderTimeout: readHeaderTimeout,
		bodyTimeout:       bodyTimeout,
		writeTimeout:      writeTimeout,
		heartbeat:         heartbeat,
	}
	if options.TracerProvider != nil {
		s.tracer = options.TracerProvider.Tracer(tracerName)
	}
	s.mcp = newMCPHandler(s.newMCPServer(newMCPTools()))
	s.register()
	return s
}

// ServeHTTP answers one request. It applies every rule of the package but the
// timeouts and the bound on the header, which belong to the connection: those
// are Serve's.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !isClean(r.URL.EscapedPath()) {
		// The mux would redirect "/v1/spaces/../memories" to another resource,
		// and a client that follows would write to a space it did not name.
		s.handler(route{path: "unclean", verb: verbPublic, handle: (*Server).notFound}).ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Drain makes the server say that it is not ready, and ends its event streams,
// each with the position to go on from. Serve does so when it is told to end;
// who serves through another http.Server calls it before that one's Shutdown.
func (s *Server) Drain() {
	s.draining.Store(true)
	s.drain(engram.ErrClosed)
}

// Serve answers the requests of a listener, which it closes. When ctx ends, it
// drains: it stops being ready, ends event streams, lets requests that are under way
// finish, and returns nil; requests that take longer than Options.DrainTimeout are cut
// off and Serve returns an error. A write that was cut off may have taken effect, which
// the same Idempotency-Key finds out.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	web := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.readHeaderTimeout,
		ReadTimeout:       s.readHeaderTimeout + s.bodyTimeout, // where net/http answers by itself; else see awaitBody
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       withHead,
		ConnState:         s.connectionState,
		ErrorLog:          zap.NewStdLog(s.options.Logger.Named("http")),
	}
	served := make(chan error, 1)
	go func() { served <- web.Serve(headListener{boundedListener{listener, s}}) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", errors.Join(err, web.Close()))
	case <-ctx.Done():
	}
	s.Drain()
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.options.DrainTimeout)
	defer cancel()
	err := web.Shutdown(deadline)
	if err != nil {
		err = errors.Join(fmt.Errorf("drain HTTP: requests were cut off: %w", err), web.Close())
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("serve: %w", end))
	}
	return err
}
