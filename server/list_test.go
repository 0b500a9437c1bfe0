package server

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

// listAll follows the cursors to the end.
func (f *fixture) listAll(target string, parameters url.Values) []string {
	f.t.Helper()
	ids := []string{}
	for {
		var page memoryPage
		f.call("GET", target+"?"+parameters.Encode(), "").into(200, &page)
		for _, memory := range page.Memories {
			ids = append(ids, memory.ID)
		}
		if page.Next == "" {
			return ids
		}
		parameters.Set("cursor", page.Next)
	}
}

func TestListMemoriesPages(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/memories"
	require.Contains(t, f.call("GET", target, "").body, `"memories":[]`)
	var memories []engram.Memory
	var want []string
	for i := range 7 {
		// Several of one time: a page may end between them.
		memories = append(memories, engram.Memory{ID: fmt.Sprint("m", i), Content: "x", Time: time.Unix(int64(i/3), 0)})
		want = append(want, memories[i].ID)
	}
	_, err := space.RememberBatch(t.Context(), memories)
	require.NoError(t, err)
	for limit := 1; limit <= len(want)+1; limit++ {
		require.Equal(t, want, f.listAll(target, url.Values{"limit": {fmt.Sprint(limit)}}))
	}
	// What goes and comes meanwhile moves nothing else.
	var page memoryPage
	f.call("GET", target+"?limit=2", "").into(200, &page)
	_, err = space.Forget(t.Context(), []string{"m0", "m1"})
	require.NoError(t, err)
	require.Equal(t, want[2:], f.listAll(target, url.Values{"cursor": {page.Next}}))
}

func TestListMemoriesFilters(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	_, err := space.RememberBatch(t.Context(), []engram.Memory{
		{ID: "a", Content: "x", Time: time.Unix(100, 0), Episode: "one", Attributes: map[string]string{"who": "anna", "at": "12:30"}},
		{ID: "b", Content: "x", Time: time.Unix(200, 0), Episode: "one", Kind: engram.Semantic},
		{ID: "c", Content: "x", Time: time.Unix(300, 0), Episode: "two", Attributes: map[string]string{"who": "anna"}},
	})
	require.NoError(t, err)
	at := func(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
	for _, c := range []struct {
		query url.Values
		want  []string
	}{
		{url.Values{"after": {at(200)}}, []string{"b", "c"}},
		{url.Values{"before": {at(200)}}, []string{"a"}},
		{url.Values{"after": {at(150)}, "before": {at(250)}}, []string{"b"}},
		{url.Values{"episode": {"one"}}, []string{"a", "b"}},
		{url.Values{"kind": {"semantic"}}, []string{"b"}},
		{url.Values{"attribute": {"who:anna"}}, []string{"a", "c"}},
		{url.Values{"attribute": {"who:anna", "at:12:30"}}, []string{"a"}},
		{url.Values{"attribute": {"who:"}}, []string{}},
		{url.Values{"after": {"1970-01-02T00:03:20+24:00"}}, []string{"b", "c"}}, // JSON has no such zone
	} {
		c.query.Set("limit", "1")
		require.Equal(t, c.want, f.listAll("/v1/spaces/alpha/memories", c.query), "%v", c.query)
	}
	for _, query := range []string{"episode=", "kind=&episode=x", "after=yesterday", "before=", "attribute=who", "attribute=a:1&attribute=a:2", "kid=semantic", "episode=a&episode=b", "limit=0", "limit=1001"} {
		f.call("GET", "/v1/spaces/alpha/memories?"+query, "").problem(400, "malformed-request")
	}
	for _, query := range []string{"kind=odd", "after=9999-12-31T23:00:00-23:00", "after=9999-12-31T23:00:00-24:00"} {
		f.call("GET", "/v1/spaces/alpha/memories?"+query, "").problem(422, "invalid")
	}
}

// TestForeignCursorsAreRefused: those of another space, of one that had this id,
// of another filter, and of nobody.
func TestForeignCursorsAreRefused(t *testing.T) {
	f := newFixture(t, Options{})
	next := func(space engram.SpaceID, query string) string {
		t.Helper()
		var page memoryPage
		f.call("GET", "/v1/spaces/"+string(space)+"/memories?limit=1"+query, "").into(200, &page)
		require.NotEmpty(t, page.Next)
		return page.Next
	}
	remember(t, f.create("alpha"), "one", "two")
	remember(t, f.create("beta"), "one", "two")
	good := next("alpha", "")
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	raw[0]++
	for _, cursor := range []string{next("beta", ""), next("alpha", "&after=1970-01-01T00:00:00Z"), "", "x", good[:len(good)-1], good + "A", base64.RawURLEncoding.EncodeToString(raw)} {
		f.call("GET", "/v1/spaces/alpha/memories?cursor="+cursor, "").problem(400, "cursor-foreign")
	}
	require.Equal(t, 200, f.call("GET", "/v1/spaces/alpha/memories?cursor="+good, "").status)

	require.NoError(t, f.registry.Delete(t.Context(), "alpha"))
	remember(t, f.create("alpha"), "one", "two")
	f.call("GET", "/v1/spaces/alpha/memories?cursor="+good, "").problem(400, "cursor-foreign")
}
