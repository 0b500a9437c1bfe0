package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// admin asks the operator's listener.
func (f *fixture) admin(host, path string, profiles bool) reply {
	f.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	f.server.AdminHandler(profiles).ServeHTTP(w, r)
	return readReply(f.t, w.Result())
}

func TestAdminHandler(t *testing.T) {
	f := newFixture(t, Options{})
	require.Equal(t, 200, f.admin("localhost", "/livez", false).status)
	require.Equal(t, 200, f.admin("localhost", "/readyz", false).status)
	require.Equal(t, 404, f.admin("localhost", "/debug/pprof/", false).status)
	require.Equal(t, 200, f.admin("localhost", "/debug/pprof/", true).status)
	require.Equal(t, 404, f.admin("localhost", "/v1/spaces", true).status)
	require.Equal(t, http.StatusMisdirectedRequest, f.admin("evil.example", "/debug/pprof/heap", true).status)
	f.server.Drain()
	require.Equal(t, 503, f.admin("localhost", "/readyz", false).status)
	require.Equal(t, 200, f.admin("localhost", "/livez", false).status, "it lives until it has drained")
	for _, path := range []string{"/metrics", "/livez", "/debug/pprof/"} {
		f.call("GET", path, "").problem(404, "route-not-found")
	}
}

func TestRequestsAreCounted(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	f.admin("localhost", "/metrics", false)
	remember := func(space string) { f.call("POST", "/v1/spaces/"+space+"/memories", `{"content":"x"}`) }
	remember("alpha")
	remember("made-up-by-a-client")
	f.call("POST", "/v1/memories", `{"content":"x"}`) // the default space is not there
	f.call("GET", "/made/up", "")
	f.admin("localhost", "/metrics", false) // gives alpha its label
	remember("alpha")
	f.requireCounted(
		`engram_requests_total{route="/v1/spaces/{space}/memories",status="201",transport="http"} 2`,
		`engram_requests_total{route="/v1/spaces/{space}/memories",status="404",transport="http"} 1`,
		`engram_problems_total{problem="route-not-found",transport="http"} 1`,
		`engram_problems_total{problem="space-not-found",transport="http"} 2`,
		`engram_space_fallbacks_total{transport="http"} 1`,
		`engram_space_requests_total{space="alpha"} 1`,
		`engram_spaces 1`,
	)
}

// requireCounted asserts lines of the metrics.
func (f *fixture) requireCounted(lines ...string) {
	f.t.Helper()
	var counted []string
	for line := range strings.Lines(f.admin("localhost", "/metrics", false).body) {
		if strings.HasPrefix(line, "engram_") && !strings.Contains(line, "_bucket{") {
			counted = append(counted, strings.TrimSuffix(line, "\n"))
		}
	}
	require.Subset(f.t, counted, lines)
	require.NotContains(f.t, strings.Join(counted, "\n"), "made")
}

// TestOnlySpacesThatExistAreLabels: not one that could not be made or imported.
func TestOnlySpacesThatExistAreLabels(t *testing.T) {
	w := wireTo(t, newFixture(t, Options{}))
	for range 2 { // a space gets its label with the next scrape
		f := w.fixture
		f.call("POST", "/v1/spaces", `{"id":"made-1","config":{"max_memories":-1}}`).problem(422, "invalid")
		f.call("POST", "/v1/spaces/made-2/import", `{"format":"other"}`).problem(422, "invalid")
		f.call("POST", "/v1/spaces/made-3/import", `{`).problem(422, "invalid")
		f.call("POST", "/v1/spaces/made-4/import", bodyFor(route{method: "POST", path: "/import"}), "If-Match", "*").problem(400, "malformed-request")
		f.call("PUT", "/v1/spaces/made-5/memories/x", `{"content":"x"}`, "If-Match", "x").problem(400, "malformed-request")
		_, err := w.spaces.CreateSpace(t.Context(), &engramv1.CreateSpaceRequest{MemorySpaceId: "made-6", Config: &engramv1.SpaceConfig{MaxMemories: -1}})
		refused(t, err, codes.InvalidArgument, "INVALID")
		w.requireCounted(`engram_space_requests_total{space="_other"} 0`)
	}
}

func TestRPCsAreCounted(t *testing.T) {
	w := wireTo(t, newFixture(t, Options{}))
	w.create("alpha")
	lookup := func(space, id string) {
		_, _ = w.memories.Lookup(t.Context(), &engramv1.LookupRequest{MemorySpaceId: space, Id: id})
	}
	w.requireCounted()
	lookup("alpha", "none")
	w.requireCounted() // gives alpha its label
	lookup("alpha", "none")
	lookup("made-up", "none")
	lookup("", "none") // the default space is not there
	for _, method := range []string{"/made.Up/Method", "/engram.v1.MemoryService/Made"} {
		require.Error(t, w.conn.Invoke(t.Context(), method, &engramv1.LookupRequest{}, &engramv1.LookupResponse{}))
	}
	const lookups = `route="/engram.v1.MemoryService/Lookup"`
	w.requireCounted(
		`engram_requests_total{`+lookups+`,status="NotFound",transport="grpc"} 4`,
		`engram_request_duration_seconds_count{`+lookups+`,transport="grpc"} 4`,
		`engram_problems_total{problem="memory-not-found",transport="grpc"} 2`,
		`engram_problems_total{problem="space-not-found",transport="grpc"} 2`,
		`engram_space_fallbacks_total{transport="grpc"} 1`,
		`engram_space_requests_total{space="alpha"} 1`,
		`engram_space_problems_total{space="alpha"} 1`,
	)
}

// TestMessagesOfAStreamAreCounted: each is about a space of its own.
func TestMessagesOfAStreamAreCounted(t *testing.T) {
	w := wireTo(t, newFixture(t, Options{}))
	for _, space := range []engram.SpaceID{"alpha", "beta", engram.DefaultSpace} {
		w.create(space)
		w.call("GET", "/v1/spaces/"+string(space), "")
	}
	w.requireCounted() // gives all of them their labels
	stream, err := w.memories.RememberStream(t.Context())
	require.NoError(t, err)
	spaces := []string{"alpha", "beta", "alpha", "made-up", "!", ""}
	for i, space := range spaces {
		require.NoError(t, stream.Send(&engramv1.RememberStreamRequest{
			Tag: uint64(i), MemorySpaceId: space, Memory: memoryOf("same", "x"),
		}))
	}
	require.NoError(t, stream.CloseSend())
	for range spaces {
		_, err := stream.Recv()
		require.NoError(t, err)
	}
	_, err = stream.Recv()
	require.ErrorIs(t, err, io.EOF)
	const messages = `route="/engram.v1.MemoryService/RememberStream"`
	w.requireCounted(
		`engram_requests_total{`+messages+`,status="OK",transport="grpc"} 5`, // four of them, and the stream
		`engram_requests_total{`+messages+`,status="NotFound",transport="grpc"} 1`,
		`engram_requests_total{`+messages+`,status="InvalidArgument",transport="grpc"} 1`,
		`engram_request_duration_seconds_count{`+messages+`,transport="grpc"} 6`,
		`engram_problems_total{problem="space-not-found",transport="grpc"} 1`,
		`engram_problems_total{problem="invalid-space-id",transport="grpc"} 1`,
		`engram_space_fallbacks_total{transport="grpc"} 1`,
		`engram_space_requests_total{space="alpha"} 2`,
		`engram_space_requests_total{space="beta"} 1`,
		`engram_space_requests_total{space="default"} 1`,
	)
}

func TestToolsAreCounted(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	c := f.connect(f.live(), "")
	ok[rememberResult](c, "remember", arguments{"space": "alpha", "content": "x"})
	c.refused("space-not-found", "remember", arguments{"space": "made-up", "content": "x"})
	c.refused("space-not-found", "recall", arguments{"text": "x"})
	f.requireCounted(
		`engram_requests_total{route="remember",status="200",transport="mcp"} 1`,
		`engram_requests_total{route="remember",status="404",transport="mcp"} 1`,
		`engram_request_duration_seconds_count{route="remember",transport="mcp"} 2`,
		`engram_problems_total{problem="space-not-found",transport="mcp"} 2`,
		`engram_space_fallbacks_total{transport="mcp"} 1`,
	)
}

// TestDashboard: each expression of the dashboard asks only for metrics and
// labels that a server has.
func TestDashboard(t *testing.T) {
	f := newFixture(t, Options{})
	f.create(engram.DefaultSpace)
	f.call("POST", "/v1/memories", `{"content":"x"}`)
	f.call("GET", "/not/a/route", "")
	f.admin("localhost", "/metrics", false)
	labels := map[string]map[string]bool{}
	for line := range strings.Lines(f.admin("localhost", "/metrics", false).body) {
		sample := regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `).FindStringSubmatch(line)
		if sample == nil {
			continue
		}
		if labels[sample[1]] == nil {
			labels[sample[1]] = map[string]bool{}
		}
		for _, label := range regexp.MustCompile(`([a-z_]+)="`).FindAllStringSubmatch(sample[2], -1) {
			labels[sample[1]][label[1]] = true
		}
	}
	content, err := os.ReadFile("../deploy/grafana/engram.json")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(content, &dashboard))
	require.Greater(t, len(dashboard.Panels), 8)
	seen := 0
	for _, panel := range dashboard.Panels {
		require.NotEmpty(t, panel.Targets, panel.Title)
		for _, target := range panel.Targets {
			names := regexp.MustCompile(`\b(engram|go|process)_[a-z_]+`).FindAllString(target.Expr, -1)
			require.NotEmpty(t, names, target.Expr)
			asked := regexp.MustCompile(`by \(([a-z_, ]+)\)`).FindAllStringSubmatch(target.Expr, -1)
			asked = append(asked, regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(target.Expr, -1)...)
			for _, name := range names {
				require.Contains(t, labels, name, target.Expr)
				seen++
				for _, match := range asked {
					for label := range strings.SplitSeq(match[1], ", ") {
						require.True(t, labels[name][label], "%s has no label %s", name, label)
					}
				}
			}
			require.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"))
		}
	}
	require.Greater(t, seen, 10)
}
