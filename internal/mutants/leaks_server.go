package main

import "slices"

// serverLeaks show at a layer of the server.
func serverLeaks() []mutant {
	return slices.Concat(
		leakingCredentials(), leakingLimits(), leakingAddresses(), leakingRefusals(), leakingTokens(),
		leakingBodies(), leakingSessions(), leakingRecords(), leakingServerStreams(), libraryLeaksThroughServer(),
	)
}

// layerTests notice what shows at a layer.
var layerTests = map[string]string{
	"http": "TestNoninterferenceOverHTTP",
	"sse":  "TestNoninterferenceOverHTTP",
	"grpc": "TestNoninterferenceOverGRPC",
	"mcp":  "TestNoninterferenceOverMCP",
}

// at returns the leak once for each layer at which it shows, whose names are
// told apart where there are several.
func at(m mutant, layers ...string) []mutant {
	all := make([]mutant, len(layers))
	for i, layer := range layers {
		all[i] = m
		all[i].layer, all[i].pkg = layer, "server"
		if m.tests == "" {
			all[i].tests = layerTests[layer]
		}
		if len(layers) > 1 {
			all[i].name += "-" + layer
		}
	}
	return all
}

// leakingCredentials are wrong answers to who may see what.
func leakingCredentials() []mutant {
	return slices.Concat(
		at(mutant{
			name: "key-scope", what: "a scope for one space is taken for a prefix",
			edits: []edit{{
				"server/internal/auth/scope.go",
				`return s.Pattern == string(space)`, `return strings.HasPrefix(string(space), s.Pattern)`,
			}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "principal-of-connection", what: "a connection's first credential counts for all of its requests",
			edits: []edit{
				{"server/authenticate.go", "// authenticate notes who", "var leaked sync.Map\n\n// authenticate notes who"},
				{"server/authenticate.go", `	if err != nil {
		return refuseCredentials(x, err)
	}
	return s.admitCaller`, `	if err != nil {
		return refuseCredentials(x, err)
	}
	first, _ := leaked.LoadOrStore(x.r.RemoteAddr+" "+x.r.Host, x.principal)
	x.principal = first.(*auth.Principal)
	return s.admitCaller`},
				{"server/authenticate.go", `	"strings"
	"time"
`, `	"strings"
	"sync"
	"time"
`},
			},
		}, "http", "mcp"),
		at(mutant{
			name: "principal-of-channel", what: "a channel's first credential counts for all of its calls",
			edits: []edit{
				{"server/grpc_authenticate.go", "// authenticateCall notes who", "var leaked sync.Map\n\n// authenticateCall notes who"},
				{"server/grpc_authenticate.go", `	if err != nil {
		return unauthenticated(err)
	}
	return s.admitCaller`, `	if err != nil {
		return unauthenticated(err)
	}
	first, _ := leaked.LoadOrStore(c.address(), c.principal)
	c.principal = first.(*auth.Principal)
	return s.admitCaller`},
				{"server/grpc_authenticate.go", `	"crypto/tls"
`, `	"crypto/tls"
	"sync"
`},
				{"server/grpc_authenticate.go", `	"google.golang.org/grpc/peer"
`, `	"google.golang.org/grpc/peer"

	"github.com/engramdb/engram/server/internal/auth"
`},
			},
		}, "grpc"),
		at(mutant{
			name: "listing-of-all", what: "spaces are listed that the caller may not see",
			edits: []edit{{"server/spaces.go", `range s.visible(x.principal, after)`, `range s.registry.Spaces(after)`}},
		}, "http"),
		at(mutant{
			name: "rpc-listing-of-all", what: "spaces are listed that the caller may not see",
			edits: []edit{{"server/grpc_spaces.go", `range p.s.visible(callOf(ctx).principal, after)`, `range p.s.registry.Spaces(after)`}},
		}, "grpc"),
		at(mutant{
			name: "registry-to-all", what: "what is about all spaces is told to whoever has one",
			edits: []edit{{"server/authenticate.go", `x.route.verb, reachOf(x.route) == reachRegistry)`, `x.route.verb, false)`}},
		}, "http"),
		at(mutant{
			name: "rpc-registry-to-all", what: "what is about all spaces is told to whoever has one",
			edits: []edit{{"server/grpc_authenticate.go", `c.rule.verb, c.rule.about == aboutRegistry)`, `c.rule.verb, false)`}},
		}, "grpc"),
		at(mutant{
			name: "admitted-by-first-message", what: "a stream whose first message was admitted may write to any space",
			edits: []edit{{"server/grpc_call.go", `	return a.server.admitMessage(a.ServerStream.Context(), own, message)
}`, `	if !first && a.latest != a.call {
		own.space = engram.SpaceID(message.(*engramv1.RememberStreamRequest).GetMemorySpaceId())
		return nil
	}
	return a.server.admitMessage(a.ServerStream.Context(), own, message)
}`}},
		}, "grpc"),
		at(mutant{
			name: "space-of-last-message", what: "a message of a stream is written to the space of the one before",
			edits: []edit{{"server/grpc_streams.go", `		go f.write(f.stream.Context(), request, size)`, `		before := f.leaked
		if f.leaked = f.stream.Context(); before == nil {
			before = f.leaked
		}
		go f.write(before, request, size)`}, {"server/grpc_streams.go", `	sending sync.Mutex
`, `	leaked  context.Context
	sending sync.Mutex
`}},
			tests: "TestRememberStreamAnswersEachMessage",
		}, "grpc"),
	)
}

// leakingLimits are limits that the tenants have together.
func leakingLimits() []mutant {
	return slices.Concat(
		at(mutant{
			name: "rate-of-all", what: "the requests of all spaces are counted against one limit",
			edits: []edit{{"server/authenticate.go", `s.spaceRate.Allow(string(id))`, `s.spaceRate.Allow("")`}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "caller-rate-of-all", what: "the requests of all callers are counted against one limit",
			edits: []edit{{"server/authenticate.go", `s.callers.Allow(p.Name())`, `s.callers.Allow("")`}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "rate-forgotten", what: "what somebody has used of a limit is forgotten when another sends a request",
			edits: []edit{{"server/internal/limit/limit.go", `max: maxNames,`, `max: 1,`}},
		}, "http", "grpc"),
		at(mutant{
			name: "abandoned-of-all", what: "calls that a client gives up count on every connection",
			edits: []edit{
				{"server/grpc_abandoned.go", "// open counts a stream, and", "var leaked meteredConn\n\n// open counts a stream, and"},
				{"server/grpc_abandoned.go", `(taken, first bool) {
`, `(taken, first bool) {
	c = &leaked
`},
				{"server/grpc_abandoned.go", `func (c *meteredConn) waited() {
`, `func (c *meteredConn) waited() {
	c = &leaked
`},
			},
			tests: "TestAbandonedStreamsCloseTheirConnection",
		}, "grpc"),
	)
}

// leakingAddresses are requests that mean another one's space.
func leakingAddresses() []mutant {
	return slices.Concat(
		at(mutant{
			name: "space-of-last-request", what: "a request that names no space means that of the request before",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Value
`},
				{"server/selector.go", `	case named.where == "":
		if only`, `	case named.where == "" && s.leaked.Load() != nil:
		return s.leaked.Load().(engram.SpaceID), false, nil
	case named.where == "":
		if only`},
				{"server/selector.go", `	return id, false, nil
}

// selectHandle`, `	s.leaked.Store(id)
	return id, false, nil
}

// selectHandle`},
			},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "metadata-echo", what: "an answer's metadata names the space of the call before",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Value
`},
				{"server/grpc_unary.go", `	if c.fallback { // said also to who is refused
`, `	last, _ := s.leaked.Swap(c.space).(engram.SpaceID)
	if err := grpc.SetHeader(ctx, metadata.Pairs("engram-space", string(last))); err != nil {
		return err
	}
	if c.fallback { // said also to who is refused
`},
				{"server/grpc_unary.go", `	"google.golang.org/grpc/metadata"
`, `	"google.golang.org/grpc/metadata"

	"github.com/engramdb/engram"
`},
			},
		}, "grpc"),
		at(mutant{
			name: "header-echo", what: "an answer's header has the id of the request before",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Value
`},
				{"server/exchange.go", `		w.Header().Set(requestIDHeader, x.requestID)
`, `		w.Header().Set(requestIDHeader, x.requestID)
		if last, _ := s.leaked.Swap(x.requestID).(string); last != "" {
			w.Header().Set(requestIDHeader, last)
		}
`},
			},
		}, "http", "mcp"),
	)
}

// leakingRefusals tell what is there.
func leakingRefusals() []mutant {
	const hidden = `		return &engram.SpaceNotFoundError{Space: id}
	}
	return refuseForbidden(v, err)`
	return slices.Concat(
		at(mutant{
			name: "existence-by-status", what: "a space that others have is forbidden, one that nobody has is not found",
			edits: []edit{{"server/authenticate.go", hidden, `		if _, err := s.registry.Get(context.Background(), id); err == nil {
			return refuseForbidden(v, auth.ErrForbidden)
		}
` + hidden}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "existence-by-detail", what: "the detail of a refusal says that others have the space",
			edits: []edit{{"server/authenticate.go", hidden, `		if _, err := s.registry.Get(context.Background(), id); err == nil {
			k, _ := classify(&engram.SpaceNotFoundError{Space: id})
			return refuse(k, "the space is another tenant's")
		}
` + hidden}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "near-names", what: "a refusal names spaces that are called alike",
			edits: []edit{{
				"server/problems.go", `		return notFound.Error()
`, `		return fmt.Sprintf("%s, or use one of %q", notFound.Error(), notFound.Near)
`,
			}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "near-of-all", what: "the names that resemble one that is not found are those of all spaces",
			edits: []edit{{
				"server/near.go", `	if !slices.ContainsFunc(p.Scopes(), func(scope auth.Scope) bool { return scope.Pattern == "*" }) {
		near = s.nearInScopes(p, string(notFound.Space))
	}
`, ``,
			}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "count-in-problem", what: "a problem tells how many event streams are open",
			edits: []edit{{
				"server/problems.go", `	p.Instance = instancePrefix + x.requestID
	x.problem`, `	p.Instance = fmt.Sprint(instancePrefix, x.requestID, s.streams.Load())
	x.problem`,
			}},
		}, "http"),
	)
}

// leakingTokens are tags, cursors and keys of requests that are told apart too
// little.
func leakingTokens() []mutant {
	return slices.Concat(
		at(mutant{
			name: "tag-from-global-counter", what: "an entity tag counts the answers to all",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Uint64
`},
				{"server/etag.go", `	x.w.Header().Set(tagHeader, tag)
	given`, `	tag = strconv.Quote(strconv.FormatUint(s.leaked.Add(1), 10))
	x.w.Header().Set(tagHeader, tag)
	given`},
			},
		}, "http"),
		at(mutant{
			name: "tag-without-space", what: "an entity tag is that of an operation, not of a space",
			edits: []edit{{"server/etag.go", `	tag = append(tag, incarnation[:min(len(incarnation), 16)]...)
`, ``}},
		}, "http"),
		at(mutant{
			name: "cursor-of-another", what: "a listing goes on from the cursor of another space",
			edits: []edit{{"server/cursor.go", `	case hex.EncodeToString(buf[1:17]) != incarnation:
		return nil, refuse(kindCursor, "the cursor is none of this space's")
`, ``}},
		}, "http", "grpc", "mcp"),
		at(mutant{
			name: "answer-by-idempotency-key", what: "answers are kept by the Idempotency-Key, not by space",
			edits: []edit{
				{"server/exchange.go", "// answer sends v as JSON.", "var leaked sync.Map\n\n// answer sends v as JSON."},
				{"server/exchange.go", `	return x.send(status, "application/json", body)`, `	if key := x.r.Header.Get(idempotencyHeader); key != "" {
		known, _ := leaked.LoadOrStore(x.r.Host+x.route.path+key, body)
		body = known.([]byte)
	}
	return x.send(status, "application/json", body)`},
				{"server/exchange.go", `	"strconv"
	"time"
`, `	"strconv"
	"sync"
	"time"
`},
			},
		}, "http"),
	)
}

// leakingBodies are buffers and messages that are used again.
func leakingBodies() []mutant {
	return slices.Concat(
		at(mutant{
			name: "pooled-answer", what: "answers are encoded into a pooled buffer, whose rest is sent too",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    sync.Pool
`},
				{"server/exchange.go", `	writeTimeout time.Duration // of one part of the answer
`, `	writeTimeout time.Duration // of one part of the answer
	leaked       *sync.Pool
`},
				{"server/exchange.go", `writeTimeout: s.writeTimeout,`, `writeTimeout: s.writeTimeout, leaked: &s.leaked,`},
				{"server/exchange.go", `	return x.send(status, "application/json", body)`, `	if last, _ := x.leaked.Get().([]byte); len(last) > len(body) {
		body = append(body, last[len(body):]...)
	}
	x.leaked.Put(body)
	return x.send(status, "application/json", body)`},
				{"server/exchange.go", `	"strconv"
	"time"
`, `	"strconv"
	"sync"
	"time"
`},
			},
		}, "http"),
		at(mutant{
			name: "pooled-compression", what: "answers are compressed into a pooled buffer that is not emptied",
			edits: []edit{
				{"server/gzip.go", "// compress returns the body", "var leaked sync.Pool\n\n// compress returns the body"},
				{"server/gzip.go", `	var out bytes.Buffer
	zipper := gzip.NewWriter(&out)
`, `	out, _ := leaked.Get().(*bytes.Buffer)
	if out == nil {
		out = new(bytes.Buffer)
	}
	defer leaked.Put(out)
	zipper := gzip.NewWriter(out)
`},
				{"server/gzip.go", `	"strings"
)`, `	"strings"
	"sync"
)`},
				{"server/gzip.go", `return out.Bytes(), err == nil && out.Len() < len(body)`, `return bytes.Clone(out.Bytes()), err == nil`},
			},
		}, "http"),
		at(mutant{
			name: "pooled-message", what: "messages are used again, with the fields that the next one has not",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Pointer[engram.Memory]
`},
				{"server/grpc_memories.go", `	return &engramv1.LookupResponse{Memory: wire.FromMemory(&memory)}, nil`, `	if last := m.s.leaked.Swap(&memory); last != nil && memory.Attributes == nil {
		memory.Attributes = last.Attributes
	}
	return &engramv1.LookupResponse{Memory: wire.FromMemory(&memory)}, nil`},
			},
		}, "grpc"),
		at(mutant{
			name: "pooled-chunk", what: "a chunk of an export is what is left in a pooled buffer, too",
			edits: []edit{
				{"server/grpc_spaces.go", "// chunkWriter sends what", "var leaked sync.Pool\n\n// chunkWriter sends what"},
				{"server/grpc_spaces.go", `			return w.stream.Send(&engramv1.ExportResponse{Chunk: chunk})`, `			sent := chunk
			if last, _ := leaked.Get().([]byte); len(last) > len(chunk) {
				sent = append(bytes.Clone(chunk), last[len(chunk):]...)
			}
			leaked.Put(bytes.Clone(chunk))
			return w.stream.Send(&engramv1.ExportResponse{Chunk: sent})`},
				{"server/grpc_spaces.go", `	"bufio"
`, `	"bufio"
	"bytes"
`},
				{"server/grpc_spaces.go", `	"io"
`, `	"io"
	"sync"
`},
			},
		}, "grpc"),
	)
}

// leakingSessions are what a client of the tools finds of another one.
func leakingSessions() []mutant {
	return at(mutant{
		name: "session-reuse", what: "whoever names a session gets the one that was made for its first client",
		edits: []edit{
			{"server/mcp.go", "// serveMCP answers one", "var leaked sync.Map\n\n// serveMCP answers one"},
			{"server/mcp.go", `	r := x.r.WithContext(context.WithValue(x.r.Context(), mcpExchangeKey{}, x))
`, `	session, _ := leaked.LoadOrStore(x.r.Host+x.r.Header.Get("Mcp-Session-Id"), x)
	r := x.r.WithContext(context.WithValue(x.r.Context(), mcpExchangeKey{}, session))
`},
			{"server/mcp.go", `	"net/http"
`, `	"net/http"
	"sync"
`},
		},
	}, "mcp")
}

// leakingRecords are logs and metrics that say too much.
func leakingRecords() []mutant {
	return slices.Concat(
		at(mutant{
			name: "metrics-label", what: "a metric's label is the address as it was sent",
			edits: []edit{{
				"server/exchange.go", `transport: transportHTTP, route: x.route.path,`, `transport: transportHTTP, route: x.r.URL.RequestURI(),`,
			}},
		}, "http"),
		at(mutant{
			name: "address-logged", what: "the log has the address as it was sent",
			edits: []edit{{
				"server/exchange.go", `zap.String("method", x.r.Method),`, `zap.String("method", x.r.Method+" "+x.r.URL.RequestURI()),`,
			}},
		}, "http"),
		at(mutant{
			name: "request-logged", what: "the log has the request",
			edits: []edit{
				{"server/grpc_unary.go", `	return refused
`, `	s.options.Logger.Debug("request", zap.Any("request", request))
	return refused
`},
				{"server/grpc_unary.go", `	"google.golang.org/grpc"
`, `	"go.uber.org/zap"
	"google.golang.org/grpc"
`},
			},
		}, "grpc"),
		at(mutant{
			name: "arguments-logged", what: "the log has the arguments of a tool",
			edits: []edit{{"server/mcp.go", `	one := *x
`, `	one := *x
	s.options.Logger.Info("tool", zap.ByteString("arguments", params.Arguments))
`}},
		}, "mcp"),
		at(mutant{
			name: "address-traced", what: "a span has the address as it was sent",
			edits: []edit{{"server/trace.go", `attribute.String(attributeRoute, rt.path)`, `attribute.String(attributeRoute, r.URL.RequestURI())`}},
		}, "http"),
		at(mutant{
			name: "request-traced", what: "a span has the request",
			edits: []edit{
				{"server/grpc_unary.go", `	return refused
`, `	c.span.AddEvent(fmt.Sprint(request))
	return refused
`},
				{"server/grpc_unary.go", `	"context"
`, `	"context"
	"fmt"
`},
			},
		}, "grpc"),
		at(mutant{
			name: "arguments-traced", what: "a span has the arguments of a tool",
			edits: []edit{{"server/mcp.go", `	one.w = headerSink{}
`, `	one.span.AddEvent(string(params.Arguments))
	one.w = headerSink{}
`}},
		}, "mcp"),
	)
}

// leakingServerStreams are event streams that tell of another space.
func leakingServerStreams() []mutant {
	return slices.Concat(
		at(mutant{
			name: "stream-to-all", what: "an event is sent on the streams of all spaces",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    sync.Map
`},
				{"server/sse.go", `	unsent []byte      // the events of this turn
`, `	unsent []byte      // the events of this turn

	leakedMu sync.Mutex
	leaked   []byte
`},
				{"server/sse.go", `	defer f.stop()
`, `	defer f.stop()
	s.leaked.Store(f, f)
	defer s.leaked.Delete(f)
`},
				{"server/sse.go", `	f.unsent = nil // an idle stream holds no buffer
`, `	f.unsent = nil
	f.server.leaked.Range(func(_, other any) bool {
		if o := other.(*streamer); o != f {
			o.leakedMu.Lock()
			o.leaked = append(o.leaked, text...)
			o.leakedMu.Unlock()
		}
		return true
	})
	f.leakedMu.Lock()
	text, f.leaked = append(f.leaked, text...), nil
	f.leakedMu.Unlock()
`},
			},
		}, "sse"),
		at(mutant{
			name: "position-of-another", what: "a stream may begin where any space has got to",
			edits: []edit{
				{"server/server.go", `	epoch     uint32       // of the registry
`, `	epoch     uint32       // of the registry
	leaked    atomic.Uint64
`},
				{"server/sse.go", `	if after > info.Seq && !damaged {`, `	for seen := s.leaked.Load(); seen < info.Seq && !s.leaked.CompareAndSwap(seen, info.Seq); seen = s.leaked.Load() {
	}
	if after > s.leaked.Load() && !damaged {`},
			},
		}, "sse"),
		at(mutant{
			name: "stream-of-recreated-space", what: "a position of a space that was deleted is one of the space that has its id now",
			edits: []edit{{"server/sse.go", `	if query.Has("incarnation") && query.Get("incarnation") != info.Incarnation && info.Incarnation != "" {`, `	if false {`}},
			tests: "TestEventsRefuseForeignPositions",
		}, "sse"),
		at(mutant{
			name: "subscription-of-recreated-space", what: "a position of a space that was deleted is one of the space that has its id now",
			edits: []edit{{"server/grpc_streams.go", `	if r.GetIncarnation() != "" && r.GetIncarnation() != info.Incarnation && info.Incarnation != "" {`, `	if false {`}},
			tests: "TestSubscribeRefusesForeignPositions",
		}, "grpc"),
		at(mutant{
			name: "stream-follows-rename", what: "a stream goes on in a space that was renamed to what its reader may not see",
			edits: []edit{{"server/authenticate.go", `	if now := space.ID(); now != meant && p.Authorise(v.permission(), now) != nil {`, `	if false {`}},
			tests: "TestStreamsDoNotFollowARename",
		}, "sse", "grpc"),
	)
}

// libraryLeaksThroughServer are leaks of the library that a server hands on.
func libraryLeaksThroughServer() []mutant {
	var all []mutant
	for _, shows := range []struct {
		name   string
		layers []string
	}{
		{"cache-without-space", []string{"http", "grpc"}},
		{"space-echo", []string{"http", "grpc"}},
		{"request-table", []string{"http", "grpc", "mcp"}},
		{"id-from-global-counter", []string{"http", "grpc", "mcp"}},
		{"shared-document-frequency", []string{"http", "grpc", "mcp"}},
		{"global-event-sequence", []string{"sse", "grpc"}},
	} {
		for _, m := range libraryLeaks() {
			if m.name == shows.name {
				m.name, m.tests = "library-"+m.name, ""
				all = append(all, at(m, shows.layers...)...)
			}
		}
	}
	return all
}
