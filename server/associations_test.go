package server

import (
	"net/url"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
	"github.com/engramdb/engram/server/internal/wire"
)

// joined makes a space in which "b" has associations of two kinds to and from two
// others, and returns all that it has.
func (f *fixture) joined(id engram.SpaceID) (*engram.Space, []engram.Association) {
	f.t.Helper()
	space := f.create(id)
	_, err := space.RememberBatch(f.t.Context(), []engram.Memory{{ID: "a", Content: "x"}, {ID: "b", Content: "x"}, {ID: "c", Content: "x"}})
	require.NoError(f.t, err)
	for _, kind := range []string{"k", "l"} {
		for _, ends := range [][2]string{{"b", "a"}, {"b", "c"}, {"a", "b"}, {"c", "b"}} {
			_, err := space.Associate(f.t.Context(), engram.Association{From: ends[0], To: ends[1], Kind: kind, Weight: 1})
			require.NoError(f.t, err)
		}
	}
	all, err := space.Associations(f.t.Context(), "b")
	require.NoError(f.t, err)
	require.Len(f.t, all, 8)
	return space, all
}

// TestAssociationsHavePages over both transports, which go on behind the last one also
// where that is no longer there.
func TestAssociationsHavePages(t *testing.T) {
	w := newWired(t, Options{})
	overHTTP := func(cursor string, limit int) ([]engram.Association, string) {
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		if cursor != "" {
			query.Set("cursor", cursor)
		}
		var page associationPage
		w.call("GET", "/v1/spaces/alpha/memories/b/associations?"+query.Encode(), "").into(200, &page)
		return page.Associations, page.Next
	}
	overGRPC := func(cursor string, limit int) ([]engram.Association, string) {
		page, err := w.memories.Associations(t.Context(), &engramv1.AssociationsRequest{
			MemorySpaceId: "alpha", Id: "b", After: cursor, Limit: int64(limit),
		})
		require.NoError(t, err)
		var associations []engram.Association
		for _, a := range page.GetAssociations() {
			associations = append(associations, wire.ToAssociation(a))
		}
		return associations, page.GetNext()
	}
	for _, ask := range []func(string, int) ([]engram.Association, string){overHTTP, overGRPC} {
		space, all := w.joined("alpha")
		for limit := 1; limit <= len(all)+1; limit++ {
			var got []engram.Association
			for cursor, more := "", true; more; more = cursor != "" {
				var page []engram.Association
				page, cursor = ask(cursor, limit)
				require.LessOrEqual(t, len(page), limit)
				require.NotEmpty(t, page)
				got = append(got, page...)
			}
			require.Equal(t, all, got, limit)
		}
		for limit := 1; limit < len(all); limit++ {
			_, cursor := ask("", limit)
			_, err := space.Dissociate(t.Context(), all[limit-1])
			require.NoError(t, err)
			rest, _ := ask(cursor, len(all))
			require.Equal(t, all[limit:], rest)
			_, err = space.Associate(t.Context(), all[limit-1])
			require.NoError(t, err)
		}
		require.NoError(t, w.registry.Delete(t.Context(), "alpha"))
	}
}

// TestForeignAssociationCursorsAreRefused: those of another memory, space, life of the
// space, or listing, and what is none.
func TestForeignAssociationCursorsAreRefused(t *testing.T) {
	w := newWired(t, Options{})
	w.joined("alpha")
	w.joined("beta")
	next := func(path string) string {
		t.Helper()
		var page struct{ Next string }
		w.call("GET", "/v1/spaces/"+path+"?limit=1", "").into(200, &page)
		require.NotEmpty(t, page.Next)
		return page.Next
	}
	const target = "/v1/spaces/alpha/memories/b/associations"
	good := next("alpha/memories/b/associations")
	require.Equal(t, 200, w.call("GET", target+"?cursor="+good, "").status)
	isForeign := func(cursor string) {
		t.Helper()
		w.call("GET", target+"?cursor="+cursor, "").problem(400, "cursor-foreign")
		_, err := w.memories.Associations(t.Context(), &engramv1.AssociationsRequest{MemorySpaceId: "alpha", Id: "b", After: cursor})
		refused(t, err, codes.InvalidArgument, "CURSOR_FOREIGN")
	}
	for _, cursor := range []string{
		next("alpha/memories/a/associations"), next("beta/memories/b/associations"), next("alpha/memories"), "x", good[:36],
	} {
		isForeign(cursor)
	}
	w.call("GET", target+"?cursor=", "").problem(400, "cursor-foreign")
	w.call("GET", "/v1/spaces/alpha/memories?cursor="+good, "").problem(400, "cursor-foreign")
	require.NoError(t, w.registry.Delete(t.Context(), "alpha"))
	w.joined("alpha")
	isForeign(good)
	for _, query := range []string{"limit=0", "limit=1001", "curser=x"} {
		w.call("GET", target+"?"+query, "").problem(400, "malformed-request")
	}
	_, err := w.memories.Associations(t.Context(), &engramv1.AssociationsRequest{MemorySpaceId: "alpha", Id: "b", Limit: 1001})
	refused(t, err, codes.InvalidArgument, "MALFORMED_REQUEST")
}
