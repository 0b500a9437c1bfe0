package verify

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server"
)

// toolCall is a call of a tool as it is sent.
type toolCall struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id,omitempty"`
	Method  string          `json:"method"`
	Params  struct {
		Meta      json.RawMessage `json:"_meta,omitempty"`
		Name      string          `json:"name"`
		Arguments map[string]any  `json:"arguments"`
	} `json:"params"`
}

// space returns the space that the call names.
func (c *toolCall) space() string {
	space, _ := c.Params.Arguments["space"].(string)
	return space
}

// toolLeak is one thing that is done wrong with calls of tools. It may change the
// call and the request, and what is answered.
type toolLeak struct {
	name  string
	found string
	says  string
	call  func(l *leaky, r *http.Request, call *toolCall)
	said  func(l *leaky, r *http.Request, call *toolCall, body string) string
}

// serve lets a leak see the calls of tools, and passes everything else on.
func (k toolLeak) serve(l *leaky, w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var call toolCall
	if r.URL.Path == "/mcp" && json.Unmarshal(body, &call) == nil && call.Method == "tools/call" {
		if k.call != nil {
			k.call(l, r, &call)
			body, _ = json.Marshal(call)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		got := l.record(r)
		if k.said != nil {
			got.body = k.said(l, r, &call, got.body)
		}
		got.header.Del("Content-Length")
		send(w, got)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.next.ServeHTTP(w, r)
}

// swap has the call of a tool be about another space now and then.
func swap(tool string) func(*leaky, *http.Request, *toolCall) {
	return func(l *leaky, _ *http.Request, call *toolCall) {
		space, limit := call.space(), call.Params.Arguments["limit"]
		if space == "" || limit == 1.0 { // a look whether the server answers
			return
		}
		other := l.sibling(space)
		if call.Params.Name != tool {
			return
		}
		if tool == "list" {
			call.Params.Arguments["limit"] = 1000 // whole: a cursor of another would be refused
		}
		if l.every(2) {
			call.Params.Arguments["space"] = other
		}
	}
}

func toolLeaks() []toolLeak {
	return []toolLeak{
		{"lists of another space", "mcp/isolation/list", "of space verify-", swap("list"), nil},
		{"recalls of another space", "mcp/isolation/recall-text", "of space verify-", swap("recall"), nil},
		{
			"cursors of any space", "mcp/events/foreign-cursor", "goes on from a cursor of space", nil,
			func(l *leaky, r *http.Request, call *toolCall, body string) string {
				if strings.Contains(body, "cursor-foreign") {
					delete(call.Params.Arguments, "cursor")
					text, _ := json.Marshal(call)
					again := r.Clone(r.Context())
					again.Body, again.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
					return l.record(again).body
				}
				return body
			},
		},
		{"forgetting everywhere", "mcp/isolation/foreign-memory", "lacks 1 memories", func(l *leaky, r *http.Request, call *toolCall) {
			if space := call.space(); space != "" {
				l.sibling(space)
			}
			if call.Params.Name == "forget" {
				ids, _ := json.Marshal(map[string]any{"ids": call.Params.Arguments["ids"]})
				for _, space := range l.all() {
					l.ask(r, http.MethodPost, "/v1/spaces/"+space+"/forget", string(ids))
				}
			}
		}, nil},
		{
			"existence told by the problem", "mcp/probes/unknown-space", "tells apart", nil,
			func(l *leaky, _ *http.Request, call *toolCall, body string) string {
				if strings.Contains(body, "space-not-found") && strings.HasSuffix(call.space(), "aaa") && l.every(2) {
					return strings.ReplaceAll(body, "space-not-found", "forbidden")
				}
				return body
			},
		},
		{"a binding that is ignored", "mcp/routing/binding", "is about", func(_ *leaky, r *http.Request, _ *toolCall) {
			r.URL.RawQuery = ""
		}, nil},
		{"an argument that leads out of the binding", "mcp/routing/disagreement", "not refused as ambiguous", func(_ *leaky, r *http.Request, call *toolCall) {
			if call.space() != "" {
				r.URL.RawQuery = ""
				r.Header.Del("X-Memory-Space")
				r.Header.Del("X-Engram-Memory-Space")
			}
		}, nil},
		{"an empty name that is the default one", "mcp/routing/empty-name", "whose space is empty", func(_ *leaky, _ *http.Request, call *toolCall) {
			if call.space() == "" {
				delete(call.Params.Arguments, "space")
			}
		}, nil},
		{"a retry that is done again", "mcp/consistency/request-id", "sent", func(_ *leaky, _ *http.Request, call *toolCall) {
			delete(call.Params.Arguments, "request_id")
		}, nil},
	}
}

// TestLeaksOfToolsAreFoundAndNamed verifies servers whose tools are wrong in one way
// each.
func TestLeaksOfToolsAreFoundAndNamed(t *testing.T) {
	for _, leak := range toolLeaks() {
		t.Run(leak.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, server.Options{}, func(next http.Handler) http.Handler {
				l := newLeaky(next)
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { leak.serve(l, w, r) })
			})
			requireFound(t, s, s.config, leak.found, leak.says)
		})
	}
}

// TestSilentFallbackOfToolsIsFound verifies a server that has the default space.
func TestSilentFallbackOfToolsIsFound(t *testing.T) {
	t.Parallel()
	leak := toolLeak{said: func(_ *leaky, _ *http.Request, _ *toolCall, body string) string {
		body = strings.ReplaceAll(body, `\"fallback\":true`, `\"fallback\":false`)
		return strings.ReplaceAll(body, `"fallback":true`, `"fallback":false`)
	}}
	s := serve(t, server.Options{AutoCreate: true}, func(next http.Handler) http.Handler {
		l := newLeaky(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { leak.serve(l, w, r) })
	})
	_, err := s.registry.Create(t.Context(), "default", engram.SpaceConfig{})
	require.NoError(t, err)
	report, err := Run(t.Context(), only(s.config, "^mcp/routing/fallback$"))
	require.NoError(t, err)
	require.Equal(t, Failed, report.Verdict)
	require.Contains(t, find(t, report, "mcp/routing/fallback").Failures[0], "does not say")
}

// TestLeakOfExistenceByToolsToKeys verifies a server whose tools tell a key that a
// space exists which it may not see.
func TestLeakOfExistenceByToolsToKeys(t *testing.T) {
	t.Parallel()
	gate, shown := keys(t)
	leak := toolLeak{said: func(l *leaky, r *http.Request, call *toolCall, body string) string {
		if !strings.Contains(body, "space-not-found") {
			return body
		}
		asked := r.Clone(r.Context())
		asked.Header.Set("Authorization", "Bearer "+shown[0].Key)
		call.Params.Name, call.Params.Arguments = "list", map[string]any{"space": call.space()}
		text, _ := json.Marshal(call)
		asked.Body, asked.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
		if !strings.Contains(l.record(asked).body, "space-not-found") {
			return strings.ReplaceAll(body, "space-not-found", "forbidden")
		}
		return body
	}}
	s := serve(t, server.Options{Auth: gate}, func(next http.Handler) http.Handler {
		l := newLeaky(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { leak.serve(l, w, r) })
	})
	config := s.config
	config.Keys = shown
	requireFound(t, s, config, "mcp/keys/foreign-space", "tells apart")
}
