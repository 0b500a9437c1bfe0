package server

import (
	"compress/gzip"
	"context"
	"encoding/hex"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
	"github.com/engramdb/engram/server/internal/tracing"
	"github.com/engramdb/engram/server/internal/wire"
)

// traceSink is a collector of traces that keeps what it is sent.
type traceSink struct {
	*httptest.Server

	mu       sync.Mutex
	received []byte // bodies, and the values of headers
	spans    []*traces.Span
}

func newTraceSink() *traceSink {
	c := &traceSink{}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	return c
}

func (c *traceSink) receive(w http.ResponseWriter, r *http.Request) {
	var source io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		orPanic(err)
		source = unzipped
	}
	body, err := io.ReadAll(source)
	orPanic(err)
	var request collector.ExportTraceServiceRequest
	orPanic(proto.Unmarshal(body, &request))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received = append(c.received, body...)
	for _, values := range r.Header {
		c.received = append(c.received, strings.Join(values, "\n")...)
	}
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// bytes returns all that was sent.
func (c *traceSink) bytes() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.received)
}

// traced is a server whose traces are collected.
type traced struct {
	*wired

	collected *traceSink
	provider  *tracing.Provider
}

func newTraced(t *testing.T, options Options, ratio float64) *traced {
	t.Helper()
	c := newTraceSink()
	t.Cleanup(c.Close)
	provider, err := tracing.Open(t.Context(), tracing.Config{Endpoint: c.URL, Ratio: ratio, FlushBound: time.Minute}, zap.NewNop())
	require.NoError(t, err)
	options.TracerProvider = provider
	return &traced{wired: newWired(t, options), collected: c, provider: provider}
}

// span is one that was sent.
type span struct {
	*traces.Span

	attributes map[string]any
}

// flush ends the provider and returns the spans by their names.
func (f *traced) flush() map[string]span {
	f.t.Helper()
	require.NoError(f.t, f.provider.Close())
	byName := map[string]span{}
	for _, sent := range f.collected.spans {
		s := span{sent, map[string]any{}}
		for _, a := range sent.GetAttributes() {
			s.attributes[a.GetKey()] = valueOf(a.GetValue())
		}
		byName[sent.GetName()] = s
	}
	return byName
}

func valueOf(v *common.AnyValue) any {
	switch v := v.GetValue().(type) {
	case *common.AnyValue_StringValue:
		return v.StringValue
	case *common.AnyValue_IntValue:
		return v.IntValue
	case *common.AnyValue_BoolValue:
		return v.BoolValue
	}
	return v
}

// The caller's span of the tests, as W3C Trace Context has it.
const (
	callerTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	callerSpan   = "00f067aa0ba902b7"
	callerParent = "00-" + callerTrace + "-" + callerSpan + "-01"
)

func (s span) requireChildOf(t *testing.T, trace, parent string) {
	t.Helper()
	require.NotNil(t, s.Span)
	require.Equal(t, trace, hex.EncodeToString(s.GetTraceId()))
	require.Equal(t, parent, hex.EncodeToString(s.GetParentSpanId()))
}

func TestTracesOfHTTP(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	f.create("alpha")
	require.Equal(t, 201, f.call("POST", "/v1/spaces/alpha/memories", `{"content":"x"}`, wire.Traceparent, callerParent).status)
	require.Equal(t, 404, f.call("GET", "/v1/spaces/made-up/memories/some-id", "").status)
	require.Equal(t, 404, f.call("BREW", "/not/a/route", "").status)
	spans := f.flush()

	request := spans["POST /v1/spaces/{space}/memories"]
	request.requireChildOf(t, callerTrace, callerSpan)
	require.Equal(t, traces.Span_SPAN_KIND_SERVER, request.GetKind())
	require.Equal(t, map[string]any{
		"engram.transport": "http", "http.request.method": "POST", "http.route": "/v1/spaces/{space}/memories",
		"http.response.status_code": int64(201), "engram.space": "alpha",
	}, request.attributes)
	require.Equal(t, traces.Status_STATUS_CODE_UNSET, request.GetStatus().GetCode())
	spans["engram.Remember"].requireChildOf(t, callerTrace, hex.EncodeToString(request.GetSpanId()))

	lookup := spans["GET /v1/spaces/{space}/memories/{id}"]
	require.Empty(t, lookup.GetParentSpanId(), "nobody has called")
	require.Equal(t, "space-not-found", lookup.attributes["engram.problem"])
	require.NotContains(t, lookup.attributes, "engram.space", "a client made it up")
	require.Equal(t, traces.Status_STATUS_CODE_UNSET, lookup.GetStatus().GetCode(), "the client's mistake")
	require.Equal(t, int64(404), spans["_OTHER /"].attributes["http.response.status_code"])
	require.Len(t, spans, 4)
}

func TestTracesOfGRPC(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	f.create("alpha")
	ctx := metadata.AppendToOutgoingContext(t.Context(), wire.Traceparent, callerParent)
	_, err := f.memories.Remember(ctx, &engramv1.RememberRequest{MemorySpaceId: "alpha", Memory: &engramv1.Memory{Content: "x"}})
	require.NoError(t, err)
	_, err = f.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: "alpha", Id: "none"})
	require.Equal(t, codes.NotFound, status.Code(err))
	stream, err := f.memories.Subscribe(t.Context(), &engramv1.SubscribeRequest{MemorySpaceId: "made-up"})
	require.NoError(t, err)
	_, err = stream.Recv()
	require.Equal(t, codes.NotFound, status.Code(err))
	f.stop() // a call may end just after its answer
	require.NoError(t, <-f.served)
	f.served <- nil
	spans := f.flush()

	call := spans["engram.v1.MemoryService/Remember"]
	call.requireChildOf(t, callerTrace, callerSpan)
	require.Equal(t, traces.Span_SPAN_KIND_SERVER, call.GetKind())
	require.Equal(t, map[string]any{
		"engram.transport": "grpc", "rpc.system": "grpc", "rpc.service": "engram.v1.MemoryService", "rpc.method": "Remember",
		"rpc.grpc.status_code": int64(codes.OK), "engram.space": "alpha",
	}, call.attributes)
	spans["engram.Remember"].requireChildOf(t, callerTrace, hex.EncodeToString(call.GetSpanId()))
	require.Equal(t, "memory-not-found", spans["engram.v1.MemoryService/Lookup"].attributes["engram.problem"])
	require.Equal(t, int64(codes.NotFound), spans["engram.v1.MemoryService/Subscribe"].attributes["rpc.grpc.status_code"])
	require.NotContains(t, spans["engram.v1.MemoryService/Subscribe"].attributes, "engram.space")
}

func TestTracesOfTools(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	f.create("alpha")
	live := httptest.NewServer(f.server)
	c := f.connect(live, "", wire.Traceparent, callerParent)
	ok[rememberResult](c, "remember", arguments{"space": "alpha", "content": "x"})
	c.refused("space-not-found", "recall", arguments{"space": "made-up", "text": "x"})
	live.Close()
	spans := f.flush()

	tool := spans["tools/call remember"]
	require.NotNil(t, tool.Span)
	require.Equal(t, callerTrace, hex.EncodeToString(tool.GetTraceId()))
	require.Equal(t, map[string]any{
		"engram.transport": "mcp", "mcp.method.name": "tools/call", "gen_ai.tool.name": "remember", "engram.space": "alpha",
	}, tool.attributes)
	var requests []string
	for _, sent := range f.collected.spans {
		if sent.GetName() == "POST /mcp" {
			require.Equal(t, callerSpan, hex.EncodeToString(sent.GetParentSpanId()))
			requests = append(requests, string(sent.GetSpanId()))
		}
	}
	require.Contains(t, requests, string(tool.GetParentSpanId()), "below the request that it came with")
	spans["engram.Remember"].requireChildOf(t, callerTrace, hex.EncodeToString(tool.GetSpanId()))
	require.Equal(t, "space-not-found", spans["tools/call recall"].attributes["engram.problem"])
	require.NotContains(t, spans["tools/call recall"].attributes, "engram.space")
}

// TestTracesOfToolsWithAParent: a call that names its caller's span is part of that
// trace, and linked to the request that it came with.
func TestTracesOfToolsWithAParent(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	f.create("alpha")
	live := httptest.NewServer(f.server)
	c := f.connect(live, "")
	call := func(tool string, parent any) {
		_, err := c.session.CallTool(t.Context(), &mcp.CallToolParams{
			Meta: mcp.Meta{wire.Traceparent: parent}, Name: tool, Arguments: arguments{"space": "alpha", "content": "x"},
		})
		require.NoError(t, err)
	}
	call("remember", callerParent)
	call("list", "no traceparent")
	call("recall", 7)
	live.Close()
	spans := f.flush()

	tool := spans["tools/call remember"]
	tool.requireChildOf(t, callerTrace, callerSpan)
	spans["engram.Remember"].requireChildOf(t, callerTrace, hex.EncodeToString(tool.GetSpanId()))
	require.Len(t, tool.GetLinks(), 1)
	requests := map[string]bool{}
	for _, sent := range f.collected.spans {
		requests[string(sent.GetSpanId())] = sent.GetName() == "POST /mcp"
	}
	require.True(t, requests[string(tool.GetLinks()[0].GetSpanId())])
	for _, name := range []string{"tools/call list", "tools/call recall"} {
		require.True(t, requests[string(spans[name].GetParentSpanId())], "what is malformed is passed over")
		require.Empty(t, spans[name].GetLinks())
	}
}

// TestTracesOfFailures: what is the server's own fault marks the span, whichever
// way was asked, and the span below it.
func TestTracesOfFailures(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	f.create("alpha")
	live := httptest.NewServer(f.server)
	c := f.connect(live, "")
	require.NoError(t, f.registry.Close())
	require.Equal(t, 503, f.call("POST", "/v1/spaces/alpha/recall", `{"text":"x"}`).status)
	c.refused("shutting-down", "recall", arguments{"space": "alpha", "text": "x"})
	_, err := f.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: &engramv1.Cue{Text: "x"}})
	require.Equal(t, codes.Unavailable, status.Code(err))
	live.Close()
	f.stop()
	require.NoError(t, <-f.served)
	f.served <- nil
	spans := f.flush()
	for _, name := range []string{"POST /v1/spaces/{space}/recall", "tools/call recall", "engram.v1.MemoryService/Recall"} {
		require.Equal(t, traces.Status_STATUS_CODE_ERROR, spans[name].GetStatus().GetCode(), name)
		require.Equal(t, "shutting-down", spans[name].attributes["engram.problem"], name)
	}
}

func TestTraceOfABrokenAnswer(t *testing.T) {
	f := newTraced(t, Options{}, 1)
	broken := f.server.handler(route{path: "/broken", verb: verbPublic, handle: func(_ *Server, x *exchange) error {
		_, err := x.Write([]byte("a part"))
		require.NoError(t, err)
		return engram.ErrClosed
	}})
	panics := f.server.handler(route{path: "/panics", verb: verbPublic, handle: func(*Server, *exchange) error {
		panic("a mistake")
	}})
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	require.Panics(t, func() { broken.ServeHTTP(httptest.NewRecorder(), r) })
	answer := httptest.NewRecorder()
	panics.ServeHTTP(answer, r)
	require.Equal(t, http.StatusInternalServerError, answer.Code)
	spans := f.flush()
	require.Equal(t, traces.Status_STATUS_CODE_ERROR, spans["GET /broken"].GetStatus().GetCode())
	require.Equal(t, traces.Status_STATUS_CODE_ERROR, spans["GET /panics"].GetStatus().GetCode())
}

// TestTracesHoldNothingOfTheClient: not what is remembered or asked, no ids, no
// keys, no addresses, nothing of the caller's trace but its ids.
func TestTracesHoldNothingOfTheClient(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"alpha:read,write"})
	require.NoError(t, err)
	key, secret := auth.NewKey("canary-name", scopes, time.Now(), time.Time{})
	f := newTraced(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}}, 1)
	f.create("alpha")
	live := httptest.NewServer(f.server)
	headers := []string{
		keyHeader, secret, wire.Traceparent, callerParent, "tracestate", "canary=canary", "baggage", "canary=canary",
		requestIDHeader, "canary", idempotencyHeader, "canary", "User-Agent", "canary",
	}
	const memory = `{"id":"canary","content":"canary","episode":"canary","attributes":{"canary":"canary"}}`
	for _, r := range [][3]string{
		{"POST", "/v1/spaces/alpha/memories", memory},
		{"POST", "/v1/spaces/alpha/recall", `{"text":"canary"}`},
		{"GET", "/v1/spaces/alpha/memories/canary", ""},
		{"GET", "/v1/spaces/alpha/memories?episode=canary", ""},
		{"GET", "/v1/spaces/alpha/memories/canary-2", ""},
		{"POST", "/v1/spaces/alpha/memories", `{"canary":"canary"}`},
		{"GET", "/v1/spaces/canary", ""},
		{"GET", "/v1/spaces/canary%20/export", ""},
		{"GET", "/canary?canary=canary", ""},
		{"CANARY", "/v1/spaces/alpha/memories", ""},
		{"POST", "/v1/spaces/alpha/associations", `{"from":"canary","to":"canary-2","kind":"canary","weight":1}`},
		{"POST", "/v1/spaces/alpha/forget", `{"ids":["canary"]}`},
	} {
		f.call(r[0], r[1], r[2], headers...)
	}
	f.call("GET", "/v1/spaces/alpha", "", keyHeader, "canary")
	c := f.connect(live, "", headers...)
	ok[rememberResult](c, "remember", arguments{"space": "alpha", "content": "canary", "id": "canary"})
	ok[recallResult](c, "recall", arguments{"space": "alpha", "text": "canary"})
	c.refused("space-not-found", "recall", arguments{"space": "canary", "text": "canary"})
	ctx := metadata.AppendToOutgoingContext(t.Context(), keyMetadata, secret, wire.Traceparent, callerParent, "tracestate", "canary=canary", "canary", "canary")
	_, err = f.memories.Remember(ctx, &engramv1.RememberRequest{MemorySpaceId: "alpha", Memory: &engramv1.Memory{Content: "canary", Id: "canary"}})
	require.NoError(t, err)
	_, err = f.memories.Lookup(ctx, &engramv1.LookupRequest{MemorySpaceId: "canary", Id: "canary"})
	require.Error(t, err)
	live.Close()
	f.stop()
	require.NoError(t, <-f.served)
	f.served <- nil
	require.Greater(t, len(f.flush()), 15)
	sent := f.collected.bytes()
	require.Contains(t, sent, "alpha")
	require.NotContains(t, strings.ToLower(sent), "canary")
	require.NotContains(t, sent, secret)
}

func TestTraceRatio(t *testing.T) {
	f := newTraced(t, Options{}, 0)
	f.call("GET", "/readyz", "")
	f.call("GET", "/openapi.json", "", wire.Traceparent, callerParent)
	f.call("GET", "/v1/stats", "", wire.Traceparent, strings.TrimSuffix(callerParent, "1")+"0")
	f.call("GET", "/v1/spaces", "", wire.Traceparent, "no traceparent")
	f.call("GET", "/v1/spaces/alpha", "", wire.Traceparent, callerParent, wire.Traceparent, callerParent)
	spans := f.flush()
	require.Len(t, spans, 1)
	spans["GET /openapi.json"].requireChildOf(t, callerTrace, callerSpan)
}

// TestDeadCollector: one that takes a connection and says nothing holds up no
// request, and the end for as long as the bound.
func TestDeadCollector(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, silent.Close()) }()
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, refusing.Close())
	for _, address := range []string{silent.Addr().String(), refusing.Addr().String()} {
		provider, err := tracing.Open(t.Context(), tracing.Config{Endpoint: "http://" + address, Ratio: 1, FlushBound: time.Millisecond}, zap.NewNop())
		require.NoError(t, err)
		f := newFixture(t, Options{TracerProvider: provider})
		for range 5000 { // more than the queue and what is being sent hold
			require.Equal(t, 200, f.call("GET", "/readyz", "").status)
		}
		closed := make(chan error, 1)
		go func() { closed <- provider.Close() }()
		select {
		case err := <-closed:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			require.FailNow(t, "the end waits for the collector")
		}
	}
}

// TestSpansOfTheHostAreItsOwn: who serves a request within a span of its own finds it
// as it was, without a tracer of the server and with one.
func TestSpansOfTheHostAreItsOwn(t *testing.T) {
	for _, ratio := range []float64{0, 1} { // 0: no tracer
		recorder := tracetest.NewSpanRecorder()
		host := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
		var f *fixture
		if ratio == 0 {
			f = newFixture(t, Options{})
		} else {
			f = newTraced(t, Options{}, ratio).fixture
		}
		f.create("alpha")
		live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, span := host.Tracer("host").Start(r.Context(), "host")
			f.server.ServeHTTP(w, r.WithContext(ctx))
			if !span.IsRecording() {
				t.Errorf("the span of the host has ended")
			}
			span.End()
		}))
		answer, err := http.Post(live.URL+"/v1/spaces/alpha/memories", "application/json", strings.NewReader(`{"content":"x"}`))
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusCreated, answer.StatusCode)
		ok[rememberResult](f.connect(live, ""), "remember", arguments{"space": "alpha", "content": "x"})
		live.Close()
		require.NotEmpty(t, recorder.Ended())
		for _, span := range recorder.Ended() {
			require.Equal(t, "host", span.Name())
			require.Empty(t, span.Attributes())
		}
	}
}

// TestSpansByTheProviderOfTheHost: a host that gives its own provider finds the spans of
// the server below its own.
func TestSpansByTheProviderOfTheHost(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	host := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	f := newFixture(t, Options{TracerProvider: host})
	f.create("alpha")
	ctx, span := host.Tracer("host").Start(t.Context(), "host")
	r := httptest.NewRequest("POST", "http://localhost/v1/spaces/alpha/memories", strings.NewReader(`{"content":"x"}`))
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r.WithContext(ctx))
	require.Equal(t, http.StatusCreated, w.Code)
	span.End()

	parents := map[string]trace.SpanID{}
	ids := map[string]trace.SpanID{}
	for _, ended := range recorder.Ended() {
		ids[ended.Name()], parents[ended.Name()] = ended.SpanContext().SpanID(), ended.Parent().SpanID()
	}
	require.Len(t, ids, 3)
	require.Equal(t, ids["host"], parents["POST /v1/spaces/{space}/memories"])
	require.Equal(t, ids["POST /v1/spaces/{space}/memories"], parents["engram.Remember"])
}

// TestNoTraces: without an endpoint there is no provider, and without a provider a
// request makes no span to ask for.
func TestNoTraces(t *testing.T) {
	provider, err := tracing.Open(t.Context(), tracing.Config{Ratio: 1}, zap.NewNop())
	require.NoError(t, err)
	require.Nil(t, provider)
	require.NoError(t, provider.Close())
	s := newFixture(t, Options{}).server
	r := httptest.NewRequest("GET", "http://localhost/", nil)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		same, span := s.traceRequest(r, route{path: "/"})
		if same != r || span != nil {
			panic("a span")
		}
		ctx, end := inLibrary(r.Context(), "Recall")
		if ctx != r.Context() {
			panic("a span")
		}
		end(context.Canceled)
	}))
}
