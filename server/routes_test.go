package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/auth"
)

func TestSpacesRoutes(t *testing.T) {
	f := newFixture(t, Options{})
	reply := f.call("POST", "/v1/spaces", `{"id":"alpha","config":{"max_memories":7}}`)
	var created engram.SpaceInfo
	reply.into(http.StatusCreated, &created)
	require.Equal(t, engram.SpaceID("alpha"), created.ID)
	require.Equal(t, int64(7), created.Config.MaxMemories)
	require.Len(t, created.Incarnation, 32)
	require.Equal(t, "/v1/spaces/alpha", reply.header.Get("Location"))

	var info engram.SpaceInfo
	f.call("GET", "/v1/spaces/alpha", "").into(http.StatusOK, &info)
	require.Equal(t, created.Incarnation, info.Incarnation)
	require.Equal(t, created.Created, info.Created)

	f.call("POST", "/v1/spaces", `{"id":"alpha"}`).problem(409, "space-exists")
	f.call("POST", "/v1/spaces", `{"id":"no spaces"}`).problem(400, "invalid-space-id")
	f.call("POST", "/v1/spaces", `{}`).problem(400, "invalid-space-id")
	f.call("POST", "/v1/spaces", `{"id":"beta","config":{"max_memories":-1}}`).problem(422, "invalid")
	f.call("POST", "/v1/spaces", `{"id":"beta","konfig":{}}`).problem(400, "malformed-body")
	f.call("POST", "/v1/spaces", `{"id":"beta","id":"gamma"}`).problem(400, "malformed-body")
	f.call("POST", "/v1/spaces", `{"id":"beta"}`, "If-None-Match", "*").problem(400, "malformed-request")
	f.call("POST", "/v1/spaces", `{"id":"beta"}`, spaceHeader, "alpha").problem(400, "space-ambiguous")
	f.call("POST", "/v1/spaces?space=alpha", `{"id":"beta"}`).problem(400, "space-ambiguous")
	f.call("POST", "/v1/spaces?space=%", `{"id":"beta"}`).problem(400, "malformed-request")
	f.call("POST", "/v1/spaces?space=alpha", `{"id":"alpha"}`, spaceHeaderAlias, "alpha").problem(409, "space-exists")
	f.call("GET", "/v1/spaces/beta", "").problem(404, "space-not-found")
	require.Equal(t, []engram.SpaceID{"alpha"}, f.spaces())
}

func TestListSpacesPages(t *testing.T) {
	f := newFixture(t, Options{})
	var page spacePage
	f.call("GET", "/v1/spaces", "").into(http.StatusOK, &page)
	require.Empty(t, page.Spaces)
	require.Contains(t, f.call("GET", "/v1/spaces", "").body, `"spaces":[]`)

	all := []engram.SpaceID{"aaa", "aaa-b", "aaab", "bbb", "ccc"}
	for _, id := range all {
		f.create(id)
	}
	for limit := 1; limit <= len(all)+1; limit++ {
		var got []engram.SpaceID
		for next := engram.SpaceID(""); ; {
			var page spacePage
			f.call("GET", "/v1/spaces?limit="+string(rune('0'+limit))+"&after="+string(next), "").into(http.StatusOK, &page)
			require.LessOrEqual(t, len(page.Spaces), limit)
			for _, item := range page.Spaces {
				got = append(got, item.ID)
			}
			if next = page.Next; next == "" {
				break
			}
			require.Len(t, page.Spaces, limit, "only the last page may be short")
		}
		require.Equal(t, all, got)
	}
	for _, query := range []string{"limit=0", "limit=1001", "limit=ten", "limit=", "limit=%zz"} {
		f.call("GET", "/v1/spaces?"+query, "").problem(400, "malformed-request")
	}
	f.call("GET", "/v1/spaces?after=NO", "").problem(400, "invalid-space-id")
	for _, query := range []string{"?limt=1", "?after=aaa&after=aaa", "?cursor=x"} { // would be the first page again and again
		f.call("GET", "/v1/spaces"+query, "").problem(400, "malformed-request")
	}
}

func TestRecallRoute(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	for _, m := range []engram.Memory{
		{ID: "tea", Content: "Anna drinks green tea", Episode: "one", Attributes: map[string]string{"who": "anna"}},
		{ID: "coffee", Content: "Ben drinks black coffee", Episode: "two", Attributes: map[string]string{"who": "ben"}},
	} {
		_, err := space.Remember(t.Context(), m)
		require.NoError(t, err)
	}
	recall := func(cue string) engram.Recall {
		t.Helper()
		var recall engram.Recall
		f.call("POST", "/v1/spaces/alpha/recall", cue).into(http.StatusOK, &recall)
		return recall
	}
	ids := func(recall engram.Recall) (ids []string) {
		for _, r := range recall.Recollections {
			ids = append(ids, r.Memory.ID)
		}
		return ids
	}
	require.Equal(t, []string{"tea"}, ids(recall(`{"text":"green tea"}`)))
	require.Equal(t, []string{"coffee"}, ids(recall(`{"text":"drinks","filter":{"attributes":{"who":"ben"}}}`)))
	require.Equal(t, []string{"coffee"}, ids(recall(`{"filter":{"episode":"two"}}`)))
	require.Equal(t, []string{"tea"}, ids(recall(`{"ids":["tea"],"limit":1}`)))
	require.Len(t, ids(recall(`{"text":"drinks"}`)), 2)
	require.Len(t, ids(recall(`{"text":"drinks","limit":1}`)), 1)
	require.Contains(t, f.call("POST", "/v1/spaces/alpha/recall", `{"text":"zebra"}`).body, `"recollections":[]`)

	for body, slug := range map[string]string{
		`{"limit":1001}`:            "limit-exceeded",
		`{"limit":-1}`:              "invalid",
		`{"min_activation":2}`:      "invalid",
		`{"embedding":[0,0]}`:       "invalid",
		`{"filter":{"kind":"odd"}}`: "invalid",
	} {
		f.call("POST", "/v1/spaces/alpha/recall", body).problem(422, slug)
	}
	for _, body := range []string{"", "[]", `{"txt":"x"}`, `{"text":"x","text":"y"}`, `{"filter":{"Episode":"x"}}`, `{"embedding":[1,null]}`, `{"text":"x"} x`} {
		f.call("POST", "/v1/spaces/alpha/recall", body).problem(400, "malformed-body")
	}
	large := `{"text":"` + strings.Repeat("x", maxRecallBody) + `"}`
	f.call("POST", "/v1/spaces/alpha/recall", large).problem(413, "body-too-large")
}

func TestReady(t *testing.T) {
	f := newFixture(t, Options{})
	var status struct{ Status string }
	f.call("GET", "/readyz", "").into(http.StatusOK, &status)
	require.Equal(t, "ready", status.Status)
	require.Empty(t, f.call("GET", "/readyz", "").header.Get(fallbackHeader))
	f.server.draining.Store(true)
	f.call("GET", "/readyz", "").into(http.StatusServiceUnavailable, &status)
	require.Equal(t, "draining", status.Status)
}

// TestNearNames: an answer names what may have been meant, of what the caller
// sees, on every transport; whatever else there is changes nothing in it.
func TestNearNames(t *testing.T) {
	scopes, err := auth.ParseScopes([]string{"alpha:read", "team-*:read"})
	require.NoError(t, err)
	key, token := auth.NewKey("", scopes, time.Now(), time.Time{})
	w := newWired(t, Options{Auth: &Auth{auth.Gate{Keys: auth.NewKeyring([]auth.Key{key})}}})
	ask := func(space string) []engram.SpaceID {
		t.Helper()
		near := w.call("GET", "/v1/spaces/"+space, "", keyHeader, token).problem(404, "space-not-found").Near
		_, err := w.spaces.GetSpace(withToken(t.Context(), token), &engramv1.GetSpaceRequest{MemorySpaceId: space})
		require.Equal(t, joinIDs(near), refused(t, err, codes.NotFound, "SPACE_NOT_FOUND").GetMetadata()["near"])
		return near
	}
	for _, id := range []engram.SpaceID{"alpha", "team-", "team-a", "team-b"} {
		w.create(id)
	}
	want := map[string][]engram.SpaceID{
		"alpah": {"alpha"}, "alph": {"alpha"}, "team-c": {"team-", "team-a", "team-b"}, "tean-a": {"team-", "team-a", "team-b"}, "zzz": nil, "alphabet": nil,
	}
	for asked, near := range want {
		require.Equal(t, near, ask(asked), asked)
	}
	for _, id := range []engram.SpaceID{"alpha1", "alpah", "tean-a", "zzz", "zzy", "alphabet"} {
		w.create(id) // which the caller does not see
	}
	for asked, near := range want {
		require.Equal(t, near, ask(asked), asked)
	}
	open := newFixture(t, Options{})
	open.create("alpha")
	require.Equal(t, []engram.SpaceID{"alpha"}, open.call("GET", "/v1/spaces/alpah", "").problem(404, "space-not-found").Near)
	require.NotContains(t, open.call("GET", "/v1/spaces/alpah", "").problem(404, "space-not-found").Detail, `"alpha"`)
}

func TestEverythingElseIsRefused(t *testing.T) {
	f := newFixture(t, Options{})
	f.create(engram.DefaultSpace)
	for _, path := range []string{"/console", "/console/", "/console/index.html", "/console/x/y", "/v1", "/v1/", "/v2/spaces", "/v1/spaces/", "/v1/memories/", "/favicon.ico", "/v1/spaces/alpha/memories/x/y"} {
		f.call("GET", path, "").problem(404, "route-not-found")
	}
	for _, rt := range routes() {
		reply := f.call("PATCH", fill(rt.path, "alpha", "x"), "")
		reply.problem(405, "method-not-allowed")
		require.Contains(t, reply.header.Get("Allow"), rt.method)
	}
	require.Equal(t, "GET, HEAD, POST", f.call("PUT", "/v1/spaces", "").header.Get("Allow"))
}

// TestUncleanPathsAreNotRedirected: a client that follows a redirect of
// ".../spaces/../memories" would write to the default space.
func TestUncleanPathsAreNotRedirected(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create(engram.DefaultSpace)
	for _, path := range []string{"/v1/spaces/../memories", "/v1/spaces//memories", "/v1//memories", "//v1/memories", "/v1/./memories", "//"} {
		r := f.call("POST", "http://localhost"+path, `{"content":"x"}`)
		r.problem(404, "route-not-found")
		require.Empty(t, r.header.Get("Location"))
	}
	require.Zero(t, memoryCount(t, space))
}

func TestCrossOriginWritesAreRefused(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "http://127.0.0.1:7432/v1/spaces/alpha/memories"
	f.call("POST", target, `{"content":"x"}`, "Sec-Fetch-Site", "cross-site").problem(403, "cross-origin")
	f.call("POST", target, `{"content":"x"}`, "Origin", "http://evil.example").problem(403, "cross-origin")
	require.Zero(t, memoryCount(t, space))
	require.Equal(t, 201, f.call("POST", target, `{"content":"x"}`, "Origin", "http://127.0.0.1:7432").status)
}

// TestEveryRouteHasAVerb: a route without one would be open to everyone or to
// nobody, by accident.
func TestEveryRouteHasAVerb(t *testing.T) {
	for _, rt := range routes() {
		require.GreaterOrEqual(t, rt.verb, verbPublic, "%s %s", rt.method, rt.path)
		require.LessOrEqual(t, rt.verb, verbAdmin, "%s %s", rt.method, rt.path)
		if rt.method == http.MethodGet && rt.verb == verbAdmin {
			continue // what only the operator may see
		}
		if rt.path == mcpPath {
			continue // its tools have verbs of their own
		}
		changes := rt.method != http.MethodGet && !strings.HasSuffix(rt.path, "/recall")
		require.Equal(t, changes, rt.verb > verbRead, "%s %s: what changes something is no reading", rt.method, rt.path)
	}
}
