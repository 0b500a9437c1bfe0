package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// fixture is a server over a registry in a temporary directory, reached without
// a network.
type fixture struct {
	t        *testing.T
	dir      string
	registry *engram.Registry
	server   *Server
}

func newFixture(t *testing.T, options Options) *fixture {
	t.Helper()
	dir := t.TempDir()
	registry, err := engram.Open(dir, engram.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	return &fixture{t: t, dir: dir, registry: registry, server: New(registry, options)}
}

// create makes a space and returns it.
func (f *fixture) create(id engram.SpaceID) *engram.Space {
	f.t.Helper()
	space, err := f.registry.Create(f.t.Context(), id, engram.SpaceConfig{})
	require.NoError(f.t, err)
	return space
}

// spaces returns the ids of all spaces.
func (f *fixture) spaces() []engram.SpaceID {
	var ids []engram.SpaceID
	for id := range f.registry.Spaces("") {
		ids = append(ids, id)
	}
	return ids
}

// reply is an answer of the server.
type reply struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

// call sends one request. Headers are pairs of name and value; a name may repeat.
func (f *fixture) call(method, target, body string, headers ...string) reply {
	f.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if strings.HasPrefix(target, "/") {
		r.Host = "localhost"
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.server.ServeHTTP(w, r)
	return readReply(f.t, w.Result())
}

func readReply(t *testing.T, response *http.Response) reply {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return reply{t: t, status: response.StatusCode, header: response.Header, body: string(body)}
}

// into decodes the body of a reply that must have the status.
func (r reply) into(status int, v any) {
	r.t.Helper()
	require.Equal(r.t, status, r.status, r.body)
	require.Equal(r.t, "application/json", r.header.Get("Content-Type"))
	require.NoError(r.t, json.Unmarshal([]byte(r.body), v))
}

// problem asserts that the reply is the problem document of the slug and returns it.
func (r reply) problem(status int, slug string) problem {
	r.t.Helper()
	var p problem
	require.NoError(r.t, json.Unmarshal([]byte(r.body), &p), r.body)
	require.Equal(r.t, problemTypePrefix+slug, p.Type, r.body)
	require.Equal(r.t, status, r.status)
	require.Equal(r.t, status, p.Status)
	require.Equal(r.t, "application/problem+json", r.header.Get("Content-Type"))
	require.NotEmpty(r.t, p.Title)
	require.NotEmpty(r.t, p.Detail)
	require.NotEmpty(r.t, p.Hint)
	return p
}

func memoryCount(t *testing.T, space *engram.Space) int {
	t.Helper()
	n := 0
	for _, err := range space.Memories(t.Context(), engram.Filter{}) {
		require.NoError(t, err)
		n++
	}
	return n
}

// fill replaces the wildcards of a route's path.
func fill(path, space, id string) string {
	return strings.NewReplacer("{space}", space, "{id}", id, "{$}", "", "{asset}", "style.css").Replace(path)
}

// bodyFor returns a valid body for a route, "" where it takes none.
func bodyFor(rt route) string {
	if rt.method != http.MethodPost && rt.method != http.MethodPut {
		return ""
	}
	switch rt.path[strings.LastIndexByte(rt.path, '/')+1:] {
	case "checkpoint", "verify", "settle":
		return ""
	case "spaces":
		return `{"id":"fresh"}`
	case "recall":
		return `{"text":"anything"}`
	case "rename":
		return `{"to":"renamed"}`
	case "config":
		return `{"max_memories":100}`
	case "forget":
		return `{"ids":["x"]}`
	case "forget-where":
		return `{"filter":{"episode":"x"}}`
	case "associations":
		return `{"from":"x","to":"y","weight":0.5}`
	case "import":
		return `{"format":"engram-export","version":1,"config":{}}` + "\n"
	}
	return `{"content":"anything"}`
}
