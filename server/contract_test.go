package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/client"
	"github.com/engramdb/engram/server/internal/httpclient"
	"github.com/engramdb/engram/server/internal/local"
)

// contractCase is an operation, and what comes of it whichever way it is asked
// for: as the library, over HTTP, over gRPC, or as a tool of the Model Context
// Protocol.
type contractCase struct {
	name string
	want error // what errors.Is finds; nil: it succeeds
	// prepare fills the directory that the registry is opened on, and says how.
	// Without it the case has a space of its own, with three memories, in a
	// registry that it shares.
	prepare func(t *testing.T, dir string) engram.Options
	// fault is what the library is made to answer, where no request can bring it
	// about.
	fault error
	do    func(ctx context.Context, c *contractRun) (any, error)
}

// contractRun is one case by one of the parties.
type contractRun struct {
	partyRegistry

	space    func(engram.SpaceID) partySpace
	registry *engram.Registry // behind it
	own      engram.SpaceID
}

// at is the space of the case.
func (c *contractRun) at() partySpace { return c.space(c.own) }

// parties are the ways to reach a registry.
func parties() []string { return []string{"library", "http", "grpc", "mcp"} }

// contractOutcome is what comes of a case.
type contractOutcome struct {
	Value  string   // as JSON
	Shown  string   // of it, what a model is shown
	Errors []string // slugs of the errors that it matches
	Told   string   // its text
	Typed  string   // its coordinates
	After  string   // export of the space, then
}

// TestContract runs every case by every party and compares.
func TestContract(t *testing.T) {
	shared := map[string]*contractRun{}
	for _, name := range parties() {
		shared[name] = openParty(t, name, t.TempDir(), engram.Options{}, nil)
	}
	cases := contractCases()
	names := map[string]bool{}
	for i, c := range cases {
		require.False(t, names[c.name], c.name)
		names[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			outcomes := map[string]contractOutcome{}
			for _, name := range parties() {
				run := *shared[name]
				run.own = engram.SpaceID(fmt.Sprintf("case-%d", i))
				switch {
				case c.prepare != nil || c.fault != nil:
					dir, options := t.TempDir(), engram.Options{}
					if c.prepare != nil {
						options = c.prepare(t, dir)
					}
					own := openParty(t, name, dir, options, c.fault)
					own.own = "alpha"
					run = *own
				default:
					seedContract(t, run.registry, run.own)
				}
				outcome, offered := run.outcome(t, c)
				require.True(t, offered || name == "mcp", name)
				if offered {
					outcomes[name] = outcome
				}
			}
			requireOneContract(t, c, outcomes)
		})
	}
}

// requireOneContract compares each outcome with the library's, and each
// transport's words with those of HTTP.
func requireOneContract(t *testing.T, c contractCase, outcomes map[string]contractOutcome) {
	t.Helper()
	library := outcomes["library"]
	for name, got := range outcomes {
		if c.want == nil {
			require.Empty(t, got.Told, name)
		} else {
			require.Contains(t, got.Errors, slugOf(c.want), "%s: %s", name, got.Told)
		}
		want := library
		want.Told = got.Told
		if name != "library" && c.want != nil && !errors.Is(c.want, context.Canceled) {
			require.Equal(t, withoutPlace(outcomes["http"].Told), withoutPlace(got.Told), name)
		}
		if name == "http" || name == "mcp" {
			want.Typed = got.Typed // a problem document has the few that a client acts on
		}
		if name == "mcp" {
			want.Value = got.Value
		}
		require.Equal(t, want, got, name)
	}
}

// withoutPlace leaves out where a transport names the space.
func withoutPlace(told string) string {
	if _, reason, found := strings.Cut(told, ": space id "); found {
		return reason
	}
	return told
}

// slugOf returns the slug of the sentinel.
func slugOf(sentinel error) string {
	k, _ := classify(sentinel)
	return k.slug
}

// TestContractHasEverySentinel: an error that is added to the library needs a
// case.
func TestContractHasEverySentinel(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range contractCases() {
		if c.want != nil {
			covered[slugOf(c.want)] = true
		}
	}
	for _, row := range libraryKinds {
		require.True(t, covered[row.kind.slug], "no case ends in %s", row.kind.slug)
	}
}

// outcome carries the case out. It returns false where the party cannot.
func (c *contractRun) outcome(t *testing.T, of contractCase) (contractOutcome, bool) {
	t.Helper()
	value, err := c.carryOut(t, of)
	if errors.Is(err, errNotOffered) {
		return contractOutcome{}, false
	}
	outcome := contractOutcome{Value: encoded(t, pinned(value)), Shown: encoded(t, shownOf(value))}
	if err != nil {
		outcome = contractOutcome{Told: err.Error(), Typed: typedOf(t, err)}
		for _, row := range libraryKinds {
			if errors.Is(err, row.sentinel) {
				outcome.Errors = append(outcome.Errors, row.kind.slug)
			}
		}
	}
	if of.prepare == nil && of.fault == nil {
		if space, err := c.registry.Get(t.Context(), c.own); err == nil {
			var export strings.Builder
			_, err = space.Export(t.Context(), &export)
			require.NoError(t, err)
			outcome.After = export.String()
		}
	}
	return outcome, true
}

func (c *contractRun) carryOut(t *testing.T, of contractCase) (any, error) {
	if _, library := c.partyRegistry.(*local.Registry); library && of.fault != nil {
		return nil, of.fault
	}
	return of.do(t.Context(), c)
}

func encoded(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// pinned leaves out what is new for each registry.
func pinned(v any) any {
	switch v := v.(type) {
	case engram.SpaceInfo:
		v.Incarnation, v.Created = "", time.Time{}
		return v
	case engram.VerifyReport:
		v.Digest = ""
		return v
	}
	return v
}

// shownOf is what of an answer a model is shown.
func shownOf(v any) any {
	switch v := v.(type) {
	case []engram.Memory:
		shown := []toolMemory{}
		for _, m := range v {
			m.Time = m.Time.UTC()
			shown = append(shown, toolMemoryOf(m))
		}
		return shown
	case engram.Recall:
		shown := []toolRecollection{}
		for _, r := range v.Recollections {
			shown = append(shown, toolRecollection{toolMemoryOf(r.Memory), r.Activation, r.Why})
		}
		return shown
	}
	return pinned(v)
}

// typedOf returns the coordinates that gRPC carries.
func typedOf(t *testing.T, err error) string {
	t.Helper()
	var (
		conflict *engram.ConflictError
		quota    *engram.QuotaError
		limit    *engram.LimitError
		notFound *engram.SpaceNotFoundError
		invalid  *engram.InvalidError
		trimmed  *engram.TrimmedError
	)
	for _, target := range []any{&conflict, &quota, &limit, &notFound, &invalid, &trimmed} {
		if errors.As(err, target) {
			return encoded(t, target)
		}
	}
	return ""
}

// stoppedClock gives the same ids and times to all parties.
type stoppedClock struct{}

func (stoppedClock) Now() time.Time { return time.Date(2026, 3, 2, 10, 0, 0, 123456789, time.UTC) }

// seedContract makes the space that a case begins with: five operations.
func seedContract(t *testing.T, registry *engram.Registry, id engram.SpaceID) *engram.Space {
	t.Helper()
	space, err := registry.Create(t.Context(), id, engram.SpaceConfig{MaxMemories: 5})
	require.NoError(t, err)
	_, err = space.RememberBatch(t.Context(), []engram.Memory{
		{ID: "tea", Content: "Anna drinks green tea.", Episode: "kitchen", Attributes: map[string]string{"who": "anna"}, Embedding: []float32{1, 0.25, 0}},
		{ID: "cake", Content: "Lemon cake goes with tea.", Episode: "kitchen", Kind: engram.Semantic, Confidence: 0.75},
		{ID: "rain", Content: "It was raining.", Time: time.Unix(1, 2).UTC()},
	})
	require.NoError(t, err)
	_, err = space.Associate(t.Context(), engram.Association{From: "tea", To: "cake", Kind: "goes-with", Weight: 0.5})
	require.NoError(t, err)
	return space
}

// openParty opens the directory and reaches it the way of that name.
func openParty(t *testing.T, name, dir string, options engram.Options, fault error) *contractRun {
	t.Helper()
	options.Clock = stoppedClock{}
	registry, err := engram.Open(dir, options)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	c := &contractRun{registry: registry}
	f := &fixture{t: t, dir: dir, registry: registry, server: New(registry, Options{})}
	if fault != nil {
		f.server.failWith(fault)
	}
	switch name {
	case "library":
		library := &local.Registry{Registry: registry}
		c.partyRegistry = library
		c.space = func(id engram.SpaceID) partySpace { return library.Space(id) }
	case "http":
		live := httptest.NewServer(f.server)
		t.Cleanup(live.Close)
		web, err := httpclient.New(live.URL, nil)
		require.NoError(t, err)
		c.partyRegistry = web
		c.space = func(id engram.SpaceID) partySpace { return web.Space(id) }
	case "grpc":
		rpc := f.serveRPC(fault)
		c.partyRegistry = rpcRegistry{rpc}
		c.space = func(id engram.SpaceID) partySpace { return rpcSpace{rpc.Space(id)} }
	case "mcp":
		session := f.connect(f.live(), "").session
		c.partyRegistry = notOffered{}
		c.space = func(id engram.SpaceID) partySpace { return toolSession{session: session, id: id} }
	}
	return c
}

// serveRPC serves gRPC, with a fault in place of every answer where there is one.
func (f *fixture) serveRPC(fault error) *client.Client {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f.t, err)
	var options []grpc.ServerOption
	if fault != nil {
		options = append(options, grpc.ChainUnaryInterceptor(
			func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, fault },
		))
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.server.ServeGRPC(ctx, listener, options...) }()
	rpc, err := client.Dial(listener.Addr().String(), client.Options{Insecure: true, Attempts: 1})
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		require.NoError(f.t, rpc.Close())
		stop()
		require.NoError(f.t, <-served)
	})
	return rpc
}

// failWith has every route and tool answer with the error.
func (s *Server) failWith(fault error) {
	s.mux = http.NewServeMux()
	for _, rt := range routes() {
		if rt.path != mcpPath {
			rt.handle = func(*Server, *exchange) error { return fault }
		}
		s.mux.Handle(rt.method+" "+rt.path, s.handler(rt))
	}
	tools := newMCPTools()
	for i := range tools {
		tools[i].call = func(*Server, *exchange, json.RawMessage) (any, error) { return nil, fault }
	}
	s.mcp = newMCPHandler(s.newMCPServer(tools))
}
