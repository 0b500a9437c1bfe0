package server

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestMemoryTags(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/memories/x"
	f.call("PUT", target, `{"content":"zero"}`, "If-Match", "*").problem(412, "precondition-failed")
	created := f.call("PUT", target, `{"content":"one"}`, "If-None-Match", "*")
	require.Equal(t, 200, created.status, created.body)
	first := created.header.Get("ETag")
	require.Equal(t, first, f.call("GET", target, "").header.Get("ETag"))
	f.call("PUT", target, `{"content":"two"}`, "If-None-Match", "*").problem(412, "precondition-failed")

	unchanged := f.call("GET", target, "", "If-None-Match", first)
	require.Equal(t, 304, unchanged.status)
	require.Empty(t, unchanged.body)
	require.Equal(t, 304, f.call("GET", target, "", "If-None-Match", `"other", W/`+first).status)
	require.Equal(t, 200, f.call("GET", target, "", "If-None-Match", `"other"`).status)

	remember(t, space, "another memory of the space is no matter")
	replaced := f.call("PUT", target, `{"content":"two"}`, "If-Match", first)
	require.Equal(t, 200, replaced.status, replaced.body)
	second := replaced.header.Get("ETag")
	require.NotEqual(t, first, second)
	f.call("PUT", target, `{"content":"three"}`, "If-Match", first).problem(412, "precondition-failed")
	f.call("DELETE", target, "", "If-Match", first).problem(412, "precondition-failed")
	var memory engram.Memory
	f.call("GET", target, "").into(200, &memory)
	require.Equal(t, "two", memory.Content)
	require.Equal(t, 200, f.call("DELETE", target, "", "If-Match", `"other", `+second).status)
	f.call("GET", target, "").problem(404, "memory-not-found")
	for _, tag := range []string{"", "x", `"`, `"a" "b"x`} {
		f.call("PUT", target, `{"content":"x"}`, "If-Match", tag).problem(400, "malformed-request")
	}
}

// TestRetriedConditionalWrite: the first answer got lost, and the condition does
// not hold any more because the write took effect.
func TestRetriedConditionalWrite(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	const target = "/v1/spaces/alpha/memories/x"
	tag := f.call("PUT", target, `{"content":"one"}`).header.Get("ETag")
	first := f.call("PUT", target, `{"content":"two"}`, "If-Match", tag, idempotencyHeader, "k")
	require.Equal(t, 200, first.status)
	require.Equal(t, first.body, f.call("PUT", target, `{"content":"two"}`, "If-Match", tag, idempotencyHeader, "k").body)
	f.call("PUT", target, `{"content":"two"}`, "If-Match", tag, idempotencyHeader, "l").problem(412, "precondition-failed")
}

func TestSpaceTags(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha"
	tag := f.call("GET", target, "").header.Get("ETag")
	require.Equal(t, 304, f.call("GET", target, "", "If-None-Match", tag).status)
	writes := map[string][2]string{
		"POST /memories":                   {`{"id":"a","content":"x"}`, ""},
		"POST /forget":                     {`{"ids":["a"]}`, ""},
		"POST /forget-where":               {`{"filter":{"episode":"x"}}`, ""},
		"PUT /config":                      {`{"max_memories":9}`, ""},
		"POST /associations":               {`{"from":"b","to":"c","weight":1}`, ""},
		"DELETE /associations?from=b&to=c": {"", ""},
	}
	_, err := space.RememberBatch(t.Context(), []engram.Memory{{ID: "b", Content: "x"}, {ID: "c", Content: "x"}})
	require.NoError(t, err)
	for route, c := range writes {
		var method, path string
		_, err := fmt.Sscan(route, &method, &path)
		require.NoError(t, err)
		before := space.Info().Seq
		reply := f.call(method, target+path, c[0], "If-Match", tag)
		reply.problem(412, "conflict")
		require.Equal(t, before, space.Info().Seq)
		f.call(method, target+path, c[0], "If-None-Match", tag).problem(400, "malformed-request")
		reply = f.call(method, target+path, c[0], "If-Match", f.call("GET", target, "").header.Get("ETag"))
		require.Less(t, reply.status, 300, "%s: %s", route, reply.body)
	}
	f.call("DELETE", target, "", "If-Match", tag).problem(400, "malformed-request")

	// A space that has this id later has other tags, however far it has gone.
	require.NoError(t, f.registry.Delete(t.Context(), "alpha"))
	space = f.create("alpha")
	require.Equal(t, uint64(1), space.Info().Seq)
	require.NotEqual(t, tag, f.call("GET", target, "").header.Get("ETag"))
	f.call("POST", target+"/memories", `{"content":"x"}`, "If-Match", tag).problem(412, "conflict")
}

// TestTagsDoNotHideDamage: no operation makes a space a damaged one.
func TestTagsDoNotHideDamage(t *testing.T) {
	f := newFixture(t, Options{})
	remember(t, f.create("alpha"), "damaged")
	require.NoError(t, f.registry.Settle(t.Context()))
	tag := f.call("GET", "/v1/spaces/alpha", "").header.Get("ETag")
	damage(t, f.dir, "damaged")
	f.call("GET", "/v1/spaces/alpha/export", "").problem(500, "space-damaged")
	var info engram.SpaceInfo
	f.call("GET", "/v1/spaces/alpha", "", "If-None-Match", tag).into(200, &info)
	require.Equal(t, engram.Quarantined, info.State)
}

// TestConcurrentConditionalWrites: of writers that read the same version, one wins.
func TestConcurrentConditionalWrites(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/memories/x"
	tag := f.call("PUT", target, `{"content":"one"}`).header.Get("ETag")
	const writers = 8
	statuses := make(chan int, writers)
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			_, err := space.Remember(t.Context(), engram.Memory{Content: "meanwhile"})
			if err != nil {
				t.Error(err)
			}
			statuses <- f.call("PUT", target, fmt.Sprintf(`{"content":"%d"}`, i), "If-Match", tag).status
		})
	}
	all.Wait()
	close(statuses)
	count := map[int]int{}
	for status := range statuses {
		count[status]++
	}
	require.Equal(t, map[int]int{200: 1, 412: writers - 1}, count)
}
