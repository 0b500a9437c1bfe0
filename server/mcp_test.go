package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/internal/auth"
)

// mcpClient is a session of the SDK's client, over HTTP.
type mcpClient struct {
	t       *testing.T
	session *mcp.ClientSession
}

// connect opens a session at /mcp, with a query and headers as pairs.
func (f *fixture) connect(live *httptest.Server, query string, headers ...string) mcpClient {
	f.t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	session, err := client.Connect(f.t.Context(), &mcp.StreamableClientTransport{
		Endpoint: live.URL + mcpPath + query, HTTPClient: &http.Client{Transport: addHeaders(headers)},
	}, nil)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { require.NoError(f.t, session.Close()) })
	return mcpClient{f.t, session}
}

// addHeaders sends each request with these headers too.
type addHeaders []string

func (h addHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for i := 0; i < len(h); i += 2 {
		r.Header.Set(h[i], h[i+1])
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (f *fixture) live() *httptest.Server {
	live := httptest.NewServer(f.server)
	f.t.Cleanup(live.Close)
	return live
}

type arguments = map[string]any

func (c mcpClient) call(tool string, args arguments) (*mcp.CallToolResult, string) {
	c.t.Helper()
	result, err := c.session.CallTool(c.t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	require.NoError(c.t, err)
	require.Len(c.t, result.Content, 1)
	return result, result.Content[0].(*mcp.TextContent).Text
}

// ok calls a tool and decodes what it says as text, which is what it says as a
// value.
func ok[Out any](c mcpClient, tool string, args arguments) Out {
	c.t.Helper()
	result, text := c.call(tool, args)
	require.False(c.t, result.IsError, text)
	structured, err := json.Marshal(result.StructuredContent)
	require.NoError(c.t, err)
	require.JSONEq(c.t, text, string(structured))
	var out Out
	require.NoError(c.t, json.Unmarshal([]byte(text), &out))
	return out
}

// refused calls a tool that answers with a problem of the slug.
func (c mcpClient) refused(slug, tool string, args arguments) problem {
	c.t.Helper()
	result, text := c.call(tool, args)
	require.True(c.t, result.IsError, text)
	require.Nil(c.t, result.StructuredContent)
	var p problem
	require.NoError(c.t, json.Unmarshal([]byte(text), &p))
	require.Equal(c.t, problemTypePrefix+slug, p.Type)
	require.NotEmpty(c.t, p.Hint)
	return p
}

func TestMCPTools(t *testing.T) {
	f := newFixture(t, Options{})
	alpha, beta := f.create("alpha"), f.create("beta")
	c := f.connect(f.live(), "")

	for _, id := range []string{"alpha", "beta"} {
		receipt := ok[rememberResult](c, "remember", arguments{
			"space": id, "id": "same", "content": "the tea of " + id, "episode": "e", "time": "2026-01-02T03:04:05Z",
			"attributes": arguments{"who": id}, "kind": "semantic", "confidence": 0.5,
		})
		require.Equal(t, rememberResult{toolSpaceAnswer{Space: engram.SpaceID(id)}, "same", receipt.Seq}, receipt)
	}
	recall := ok[recallResult](c, "recall", arguments{"space": "alpha", "text": "which tea"})
	require.Len(t, recall.Recollections, 1)
	require.Equal(t, "the tea of alpha", recall.Recollections[0].Content)
	require.Positive(t, recall.Recollections[0].Activation)
	require.Positive(t, recall.Recollections[0].Why.Text)
	require.Empty(t, ok[recallResult](c, "recall", arguments{"space": "alpha", "text": "which tea", "attributes": arguments{"who": "beta"}}).Recollections)

	listed := ok[listResult](c, "list", arguments{"space": "beta", "kind": "semantic"})
	stored, err := beta.Lookup(t.Context(), "same")
	require.NoError(t, err)
	require.Equal(t, []toolMemory{toolMemoryOf(stored)}, listed.Memories)

	require.Equal(t, 1, ok[forgetResult](c, "forget", arguments{"space": "beta", "ids": []string{"same", "unknown"}}).Forgotten)
	require.Zero(t, memoryCount(t, beta))
	require.Equal(t, 1, memoryCount(t, alpha))
}

// TestMCPToolsDoNotEndTheProcess: a panic ends the call that it is in.
func TestMCPToolsDoNotEndTheProcess(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	tools := newMCPTools()
	tools[0].call = func(*Server, *exchange, json.RawMessage) (any, error) { panic("canary") }
	f.server.mcp = newMCPHandler(f.server.newMCPServer(tools))
	c := f.connect(f.live(), "?space=alpha")
	require.NotContains(t, c.refused("internal", "remember", arguments{"content": "x"}).Detail, "canary")
	ok[listResult](c, "list", arguments{})
}

func TestMCPListPages(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	for i := range 5 {
		_, err := space.Remember(t.Context(), engram.Memory{ID: fmt.Sprint(i), Content: "x"})
		require.NoError(t, err)
	}
	c := f.connect(f.live(), "")
	var ids []string
	args := arguments{"space": "alpha", "limit": 2}
	for {
		page := ok[listResult](c, "list", args)
		for _, m := range page.Memories {
			ids = append(ids, m.ID)
		}
		if page.Next == "" {
			break
		}
		args["cursor"] = page.Next
	}
	require.Equal(t, []string{"0", "1", "2", "3", "4"}, ids)
	f.create("beta")
	c.refused("cursor-foreign", "list", arguments{"space": "beta", "limit": 2, "cursor": args["cursor"]})
}

// TestMCPSpace holds a call to the rules of every other request.
func TestMCPSpace(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	live := f.live()
	c := f.connect(live, "")
	cue := arguments{"text": "x"}

	p := c.refused("space-not-found", "recall", arguments{"space": "alphx", "text": "x"})
	require.Equal(t, f.call(http.MethodPost, "/v1/spaces/alphx/recall", `{"text":"x"}`).problem(404, "space-not-found").Hint, p.Hint)
	c.refused("space-not-found", "remember", arguments{"space": "alphx", "content": "x"})
	c.refused("invalid-space-id", "recall", arguments{"space": "../alpha", "text": "x"})
	c.refused("invalid-space-id", "recall", arguments{"space": "", "text": "x"})
	require.Equal(t, []engram.SpaceID{"alpha"}, f.spaces())

	// Naming no space means the default one, and the answer says so.
	c.refused("space-not-found", "recall", cue)
	f.create(engram.DefaultSpace)
	fell := ok[recallResult](c, "recall", cue)
	require.True(t, fell.Fallback)
	require.NotEmpty(t, fell.Note)
	require.Equal(t, engram.SpaceID(engram.DefaultSpace), fell.Space)

	// The address binds a session to a space: an argument may not lead out of it.
	for _, bound := range []mcpClient{f.connect(live, "?space=alpha"), f.connect(live, "", spaceHeader, "alpha")} {
		require.Equal(t, engram.SpaceID("alpha"), ok[recallResult](bound, "recall", cue).Space)
		require.False(t, ok[recallResult](bound, "recall", arguments{"space": "alpha", "text": "x"}).Fallback)
		detail := bound.refused("space-ambiguous", "recall", arguments{"space": "default", "text": "x"}).Detail
		require.True(t, strings.HasSuffix(detail, "the argument space name different spaces"), detail)
	}
}

func TestMCPOptions(t *testing.T) {
	f := newFixture(t, Options{RequireSpace: true, AutoCreate: true})
	c := f.connect(f.live(), "")
	c.refused("space-required", "remember", arguments{"content": "x"})
	c.refused("space-not-found", "recall", arguments{"space": "fresh", "text": "x"})
	ok[rememberResult](c, "remember", arguments{"space": "fresh", "content": "x"})
	require.Equal(t, []engram.SpaceID{"fresh"}, f.spaces())
}

func TestMCPRefusesWrongArguments(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	c := f.connect(f.live(), "")
	for _, row := range []struct {
		slug, tool string
		args       arguments
	}{
		{"malformed-body", "remember", arguments{"content": "x", "contents": "y"}},
		{"malformed-body", "remember", arguments{"content": 5}},
		{"malformed-body", "remember", arguments{"content": "x", "embedding": []float64{1}}},
		{"invalid", "remember", arguments{}},
		{"invalid", "remember", arguments{"content": "x", "confidence": 2}},
		{"invalid", "remember", arguments{"content": "x", "request_id": ""}},
		{"limit-exceeded", "remember", arguments{"content": strings.Repeat("x", engram.MaxContentBytes+1)}},
		{"malformed-body", "recall", arguments{"text": "x", "Limit": 3}},
		{"limit-exceeded", "recall", arguments{"text": "x", "limit": 1001}},
		{"malformed-body", "forget", arguments{"id": "x"}},
		{"invalid", "forget", arguments{"ids": []string{""}}},
		{"invalid", "list", arguments{"limit": -1}},
		{"limit-exceeded", "list", arguments{"limit": 1001}},
		{"cursor-foreign", "list", arguments{"cursor": "x"}},
	} {
		row.args["space"] = "alpha"
		c.refused(row.slug, row.tool, row.args)
	}
	require.Zero(t, memoryCount(t, space))
	_, err := c.session.CallTool(t.Context(), &mcp.CallToolParams{Name: "destroy"})
	require.Error(t, err)
}

// TestMCPRetry: a call with the request_id of another takes effect once.
func TestMCPRetry(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	c := f.connect(f.live(), "")
	args := arguments{"space": "alpha", "content": "x", "request_id": "r"}
	first := ok[rememberResult](c, "remember", args)
	require.Equal(t, first, ok[rememberResult](c, "remember", args))
	require.Equal(t, 1, memoryCount(t, space))
	args["content"] = "y"
	c.refused("idempotency-key-reused", "remember", args)
}

// TestMCPDescribesItsTools: the schemas accept what the tools take and say, and
// the annotations are true.
func TestMCPDescribesItsTools(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	c := f.connect(f.live(), "")
	listed, err := c.session.ListTools(t.Context(), nil)
	require.NoError(t, err)
	samples := map[string]arguments{
		"remember": {"space": "alpha", "id": "a", "content": "x"},
		"recall":   {"space": "alpha", "text": "x"},
		"list":     {"space": "alpha"},
		"forget":   {"space": "alpha", "ids": []string{"a"}},
	}
	require.Len(t, listed.Tools, len(samples))
	for _, name := range []string{"remember", "recall", "list", "forget"} {
		for _, tool := range listed.Tools {
			if tool.Name != name {
				continue
			}
			require.NotEmpty(t, tool.Description)
			require.NotEmpty(t, tool.Annotations.Title)
			require.False(t, *tool.Annotations.OpenWorldHint)
			reads := name == "recall" || name == "list"
			require.Equal(t, reads, tool.Annotations.ReadOnlyHint, name)
			require.Equal(t, !reads, *tool.Annotations.DestructiveHint, name)
			require.Equal(t, name != "remember", tool.Annotations.IdempotentHint, name)

			input, output := resolve(t, tool.InputSchema), resolve(t, tool.OutputSchema)
			require.NoError(t, input.Validate(samples[name]))
			require.Error(t, input.Validate(arguments{"unknown": 1}))
			result, text := c.call(name, samples[name])
			require.False(t, result.IsError, text)
			require.NoError(t, output.Validate(result.StructuredContent), text)
		}
	}
}

func resolve(t *testing.T, schema any) *jsonschema.Resolved {
	t.Helper()
	text, err := json.Marshal(schema)
	require.NoError(t, err)
	var s jsonschema.Schema
	require.NoError(t, json.Unmarshal(text, &s))
	resolved, err := s.Resolve(nil)
	require.NoError(t, err)
	return resolved
}

// TestMCPSessionsDoNotMix runs sessions that are bound to different spaces at
// once, with equal ids in all of them.
func TestMCPSessionsDoNotMix(t *testing.T) {
	f := newFixture(t, Options{})
	live := f.live()
	ids := []engram.SpaceID{"aaa", "aaab", "aaa-b", "b-aaa"}
	var sessions sync.WaitGroup
	for _, id := range ids {
		f.create(id)
		for worker := range 2 {
			c := f.connect(live, "?space="+string(id))
			sessions.Go(func() {
				for i := range 10 {
					name := fmt.Sprintf("%d-%d", worker, i)
					receipt := ok[rememberResult](c, "remember", arguments{"id": name, "content": "canary " + string(id) + "."})
					require.Equal(t, id, receipt.Space)
					for _, r := range ok[recallResult](c, "recall", arguments{"text": "canary", "limit": 100}).Recollections {
						require.Equal(t, "canary "+string(id)+".", r.Content)
					}
				}
			})
		}
	}
	sessions.Wait()
	for _, id := range ids {
		space, err := f.registry.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, 20, memoryCount(t, space))
	}
}

// TestMCPKeepsNoSession: what serves all clients knows none of them once it has answered.
func TestMCPKeepsNoSession(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	shared := f.server.newMCPServer(newMCPTools())
	f.server.mcp = newMCPHandler(shared)
	headers := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	for _, message := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"c","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":{"space":"alpha","text":"x"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"recall","arguments":{"space":"beta","text":"x"}}}`,
		`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:y"}}`,
		`{"jsonrpc":"2.0","id":1,"method":"nothing"}`,
		`{`,
	} {
		reply := f.call(http.MethodPost, mcpPath, message, headers...)
		require.Empty(t, reply.header.Get("Mcp-Session-Id"))
		require.Empty(t, slices.Collect(shared.Sessions()), message)
	}
}

// TestMCPGuards: the protocol is behind the checks of every route.
func TestMCPGuards(t *testing.T) {
	f := newFixture(t, Options{})
	message := `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	headers := []string{"Content-Type", "application/json", "Accept", "application/json, text/event-stream"}
	require.Equal(t, http.StatusOK, f.call(http.MethodPost, mcpPath, message, append(headers, "Host", "localhost")...).status)
	f.call(http.MethodPost, mcpPath, message, append(headers, "Sec-Fetch-Site", "cross-site")...).problem(403, "cross-origin")
	f.call(http.MethodPost, "http://evil.example"+mcpPath, message, headers...).problem(421, "host-not-allowed")
	f.call(http.MethodPost, mcpPath, strings.Repeat(" ", maxMCPBody+1), headers...).problem(413, "body-too-large")
	f.call(http.MethodGet, mcpPath, "").problem(405, "method-not-allowed")
}

// TestMCPRefusals: what the protocol's own handler refuses is a problem as everywhere,
// and counted as one.
func TestMCPRefusals(t *testing.T) {
	f := newFixture(t, Options{})
	const ping = `{"jsonrpc":"2.0","id":1,"method":"ping"}`
	kind := []string{"Content-Type", "application/json"}
	both := append(kind, "Accept", "application/json, text/event-stream")
	for _, c := range []struct {
		body    string
		headers []string
		status  int
		detail  string
	}{
		{ping, nil, 415, "Content-Type"},
		{ping, kind, 400, "Accept"},
		{"", both, 400, "body"},
		{"{", both, 400, "malformed payload"},
		{`{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 1000) + `"}`, both, 400, "xxx"},
		{ping, append(both, "Mcp-Protocol-Version", "1999-01-01"), 400, "version"},
		{"\n [" + ping + "]", both, 400, "batch"},
		{`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"\"":[[]` + strings.Repeat(",[]", maxElements/2) + "]}}}", both, 400, "values"},
	} {
		p := f.call(http.MethodPost, mcpPath, c.body, c.headers...).problem(c.status, "malformed-message")
		require.Contains(t, p.Detail, c.detail)
		require.LessOrEqual(t, len(p.Detail), maxRefusalBytes)
	}
	f.requireCounted(`engram_problems_total{problem="malformed-message",transport="http"} 8`)
	const texts = `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":{"x":"`
	require.Equal(t, 200, f.call(http.MethodPost, mcpPath, texts+strings.Repeat(`,[{\"`, maxElements)+`"}}}`, both...).status)
	answer := f.call(http.MethodPost, mcpPath, ping, both...)
	require.Equal(t, 200, answer.status, answer.body)
	require.Equal(t, "application/json", answer.header.Get("Content-Type"))
}

// TestMCPAuthorisesEachCall: a tool needs its own verb on the space that it is
// called for, and a space of others is answered as one that is not there.
func TestMCPAuthorisesEachCall(t *testing.T) {
	columns, gate := callers(t)
	f := newFixture(t, Options{Auth: gate})
	f.create("alpha")
	f.create("other")
	live := f.live()
	slugOf := func(c mcpClient, tool string, args arguments) string {
		result, text := c.call(tool, args)
		if !result.IsError {
			return ""
		}
		var p problem
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		return strings.TrimPrefix(p.Type, problemTypePrefix)
	}
	memory := func(space string) arguments { return arguments{"space": space, "content": "x"} }
	cue := func(space string) arguments { return arguments{"space": space, "text": "x"} }
	for _, column := range columns {
		if !column.known || column.all {
			continue
		}
		c := f.connect(live, "", "Authorization", "Bearer "+column.token)
		want := map[bool]string{true: "", false: "forbidden"}
		if column.granted == 0 {
			want[false] = "space-not-found"
		}
		require.Equal(t, want[column.granted&auth.Write != 0], slugOf(c, "remember", memory("alpha")), column.name)
		require.Equal(t, want[column.granted&auth.Read != 0], slugOf(c, "recall", cue("alpha")), column.name)
		if column.granted != 0 {
			require.Equal(t, "space-not-found", slugOf(c, "remember", memory("other")), column.name)
			require.Equal(t, "space-not-found", slugOf(c, "recall", cue("missing")), column.name)
		}
	}
}

// TestMCPCallEndsWithItsRequest: nobody waits for a call whose client has left.
func TestMCPCallEndsWithItsRequest(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	c := f.connect(f.live(), "?space=alpha")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.session.CallTool(ctx, &mcp.CallToolParams{Name: "recall", Arguments: arguments{"text": "x"}})
	require.ErrorIs(t, err, context.Canceled)
	ok[recallResult](c, "recall", arguments{"text": "x"})
}
