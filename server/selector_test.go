package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

const (
	unscoped  = "/v1/recall"
	scoped    = "/v1/spaces/aaa/recall"
	ambiguous = "space-ambiguous"
	invalid   = "invalid-space-id"
	missing   = "space-not-found"
)

// selectorCase is one way to name a space, and the space that answers or the
// problem.
type selectorCase struct {
	target  string
	field   string // memory_space_id as JSON
	headers []string
	want    engram.SpaceID
	problem string
}

func selectorCases() map[string]selectorCase {
	return map[string]selectorCase{
		"path":                   {target: scoped, want: "aaa"},
		"header":                 {target: unscoped, headers: []string{spaceHeader, "aaa"}, want: "aaa"},
		"alias":                  {target: unscoped, headers: []string{spaceHeaderAlias, "aaab"}, want: "aaab"},
		"header in other case":   {target: unscoped, headers: []string{"x-engram-memory-space", "aaa"}, want: "aaa"},
		"query":                  {target: unscoped + "?space=aaab", want: "aaab"},
		"body":                   {target: unscoped, field: `"aaa"`, want: "aaa"},
		"null in the body":       {target: unscoped, field: `null`, want: engram.DefaultSpace},
		"nothing":                {target: unscoped, want: engram.DefaultSpace},
		"all agree":              {target: scoped + "?space=aaa", field: `"aaa"`, headers: []string{spaceHeader, "aaa", spaceHeaderAlias, "aaa"}, want: "aaa"},
		"explicit default":       {target: unscoped, headers: []string{spaceHeader, "default"}, want: engram.DefaultSpace},
		"path and header":        {target: scoped, headers: []string{spaceHeader, "aaab"}, problem: ambiguous},
		"path and alias":         {target: scoped, headers: []string{spaceHeaderAlias, "aaab"}, problem: ambiguous},
		"path and query":         {target: scoped + "?space=aaab", problem: ambiguous},
		"path and body":          {target: scoped, field: `"aaab"`, problem: ambiguous},
		"header and alias":       {target: unscoped, headers: []string{spaceHeader, "aaa", spaceHeaderAlias, "aaab"}, problem: ambiguous},
		"header twice":           {target: unscoped, headers: []string{spaceHeader, "aaa", spaceHeader, "aaab"}, problem: ambiguous},
		"header and query":       {target: unscoped + "?space=aaab", headers: []string{spaceHeader, "aaa"}, problem: ambiguous},
		"header and body":        {target: unscoped, field: `"aaab"`, headers: []string{spaceHeader, "aaa"}, problem: ambiguous},
		"query twice":            {target: unscoped + "?space=aaa&space=aaab", problem: ambiguous},
		"query and body":         {target: unscoped + "?space=aaa", field: `"aaab"`, problem: ambiguous},
		"empty header":           {target: unscoped, headers: []string{spaceHeader, ""}, problem: invalid},
		"empty query":            {target: unscoped + "?space=", problem: invalid},
		"empty field":            {target: unscoped, field: `""`, problem: invalid},
		"path and empty header":  {target: scoped, headers: []string{spaceHeader, ""}, problem: ambiguous},
		"list in a header":       {target: unscoped, headers: []string{spaceHeader, "aaa, aaab"}, problem: invalid},
		"climbing header":        {target: unscoped, headers: []string{spaceHeader, "../aaa"}, problem: invalid},
		"upper case":             {target: unscoped, headers: []string{spaceHeader, "AAA"}, problem: invalid},
		"encoded climbing path":  {target: "/v1/spaces/..%2faaa/recall", problem: invalid},
		"encoded dots":           {target: "/v1/spaces/%2e%2e/recall", problem: invalid},
		"encoded NUL":            {target: "/v1/spaces/aaa%00/recall", problem: invalid},
		"device name":            {target: "/v1/spaces/nul/recall", problem: invalid},
		"unknown in the path":    {target: "/v1/spaces/aaac/recall", problem: missing},
		"unknown in a header":    {target: unscoped, headers: []string{spaceHeader, "aaac"}, problem: missing},
		"malformed query":        {target: unscoped + "?space=%zz", problem: "malformed-request"},
		"semicolon in the query": {target: unscoped + "?a;space=aaa", problem: "malformed-request"},
	}
}

// TestSelector recalls with the sources of a space's name in all combinations
// that matter, and sees from the answer which space was asked: each holds one
// memory with its own name.
func TestSelector(t *testing.T) {
	f := newFixture(t, Options{})
	for _, id := range []engram.SpaceID{engram.DefaultSpace, "aaa", "aaab"} {
		_, err := f.create(id).Remember(t.Context(), engram.Memory{ID: "same", Content: "fact of " + string(id)})
		require.NoError(t, err)
	}
	for name, c := range selectorCases() {
		t.Run(name, func(t *testing.T) {
			f := &fixture{t: t, registry: f.registry, server: f.server}
			body := `{"text":"fact"}`
			if c.field != "" {
				body = `{"text":"fact","memory_space_id":` + c.field + `}`
			}
			reply := f.call("POST", c.target, body, c.headers...)
			if c.problem != "" {
				status := http.StatusBadRequest
				if c.problem == missing {
					status = http.StatusNotFound
				}
				p := reply.problem(status, c.problem)
				require.NotContains(t, p.Detail, "aaab", "an error names places, and no space but the one asked for")
				require.Empty(t, reply.header.Get(fallbackHeader))
				return
			}
			var recall engram.Recall
			reply.into(http.StatusOK, &recall)
			require.Len(t, recall.Recollections, 1)
			require.Equal(t, c.want, recall.Recollections[0].Memory.Space)
			require.Equal(t, "fact of "+string(c.want), recall.Recollections[0].Memory.Content)
			fallback := c.target == unscoped && c.headers == nil && (c.field == "" || c.field == "null")
			require.Equal(t, fallback, reply.header.Get(fallbackHeader) == "default")
		})
	}
}

// TestSelectorOnEveryRoute: one resolver serves all of them.
func TestSelectorOnEveryRoute(t *testing.T) {
	f := newFixture(t, Options{RequireSpace: true})
	f.create("aaa")
	f.create("bbb")
	for _, rt := range routes() {
		inSpace := strings.Contains(rt.path, "{space}")
		if !inSpace && !isContent(rt.path) {
			continue // these are about no space in particular
		}
		t.Run(rt.method+rt.path, func(t *testing.T) {
			f := &fixture{t: t, registry: f.registry, server: f.server}
			send := func(space string, headers ...string) reply {
				return f.call(rt.method, fill(rt.path, space, "x"), bodyFor(rt), headers...)
			}
			send("aaa", spaceHeader, "bbb", spaceHeaderAlias, "aaa").problem(400, "space-ambiguous")
			send("NO", spaceHeader, "NO").problem(400, "invalid-space-id")
			if !strings.HasSuffix(rt.path, "/import") {
				send("nobody", spaceHeader, "nobody").problem(404, "space-not-found")
			}
			if !inSpace {
				send("").problem(400, "space-required")
			}
		})
	}
	require.Equal(t, []engram.SpaceID{"aaa", "bbb"}, f.spaces(), "no request may have created a space")
}

// isContent reports whether the path is that of a route without its space.
func isContent(path string) bool {
	for _, rt := range contentRoutes() {
		if path == "/v1"+rt.path {
			return true
		}
	}
	return false
}

func TestAutoCreate(t *testing.T) {
	f := newFixture(t, Options{AutoCreate: true})
	f.call("POST", "/v1/spaces/read-only/recall", `{"text":"x"}`).problem(404, "space-not-found")
	f.call("GET", "/v1/spaces/read-only/memories/x", "").problem(404, "space-not-found")
	require.Empty(t, f.spaces(), "a read never creates")

	var receipt engram.Receipt
	f.call("POST", "/v1/spaces/written/memories", `{"content":"x"}`).into(201, &receipt)
	reply := f.call("POST", "/v1/memories", `{"content":"x"}`)
	reply.into(201, &receipt)
	require.Equal(t, "default", reply.header.Get(fallbackHeader))
	require.Equal(t, []engram.SpaceID{"default", "written"}, f.spaces())
}

// TestAutoCreateOfARefusedWrite: a request that fails stores nothing, and so makes
// no space, whichever way it came.
func TestAutoCreateOfARefusedWrite(t *testing.T) {
	f := newWired(t, Options{AutoCreate: true})
	const memories, one = "/v1/spaces/bad/memories", "/v1/spaces/bad/memories/x"
	large := fmt.Sprintf(`{"content":%q}`, strings.Repeat("x", engram.MaxContentBytes))
	for _, c := range []struct {
		method, path, body string
		headers            []string
		status             int
		slug               string
	}{
		{"POST", memories, `{"content":`, nil, 400, "malformed-body"},
		{"POST", memories, `{}`, nil, 422, "invalid"},
		{"POST", memories, `{"content":"x","confidence":2}`, nil, 422, "invalid"},
		{"POST", memories, `{"memories":[]}`, nil, 422, "invalid"},
		{"POST", memories, `{"memories":[{"content":"x"},{"content":"x","space":"other"}]}`, nil, 400, "wrong-space"},
		{"POST", memories, `{"memories":[{"embedding":[1,0,0,0,0,0,0,0]},{"embedding":[1,0,0,0]}]}`, nil, 422, "invalid"},
		{"POST", memories, `{"memories":[` + large + strings.Repeat(","+large, engram.MaxBatchBytes/engram.MaxContentBytes) + `]}`, nil, 422, "limit-exceeded"},
		{"POST", memories, `{"content":"x"}`, []string{idempotencyHeader, strings.Repeat("x", engram.MaxRequestIDBytes+1)}, 422, "limit-exceeded"},
		{"POST", memories, `{"content":"x"}`, []string{"If-None-Match", "*"}, 400, "malformed-request"},
		{"POST", memories, `{"content":"x"}`, []string{"If-Match", `"a-1-1", "b-1-1"`}, 400, "malformed-request"},
		{"POST", memories, `{"content":"x"}`, []string{"If-Match", `"a-1-1"`}, 404, "space-not-found"},
		{"PUT", one, `{}`, nil, 422, "invalid"},
		{"PUT", one, `{"content":"x"}`, []string{"If-Match", "*"}, 404, "space-not-found"},
		{"PUT", one, `{"content":"x"}`, []string{"If-None-Match", "x"}, 400, "malformed-request"},
	} {
		f.call(c.method, c.path, c.body, c.headers...).problem(c.status, c.slug)
		require.Empty(t, f.fixture.spaces(), "%s %s %.100s %v", c.method, c.path, c.body, c.headers)
	}

	_, err := f.memories.Remember(t.Context(), &engramv1.RememberRequest{MemorySpaceId: "bad", Memory: &engramv1.Memory{}})
	refused(t, err, codes.InvalidArgument, "INVALID")
	expected := uint64(7)
	_, err = f.memories.Remember(t.Context(), &engramv1.RememberRequest{
		MemorySpaceId: "bad", Memory: &engramv1.Memory{Content: "x"}, Options: &engramv1.WriteOptions{ExpectSeq: &expected},
	})
	refused(t, err, codes.NotFound, "SPACE_NOT_FOUND")
	_, err = f.memories.RememberBatch(t.Context(), &engramv1.RememberBatchRequest{MemorySpaceId: "bad"})
	refused(t, err, codes.InvalidArgument, "INVALID")
	stream, err := f.memories.RememberStream(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&engramv1.RememberStreamRequest{MemorySpaceId: "bad", Memory: &engramv1.Memory{}}))
	answer, err := stream.Recv()
	require.NoError(t, err)
	require.NotNil(t, answer.GetFailure())
	f.connect(f.live(), "").refused("invalid", "remember", arguments{"space": "bad"})
	require.Empty(t, f.fixture.spaces())

	// What a new space takes, it gets.
	require.Equal(t, 200, f.call("PUT", "/v1/spaces/good/memories/x", `{"content":"x"}`, "If-None-Match", "*").status)
	require.Equal(t, []engram.SpaceID{"good"}, f.fixture.spaces())
}
