package server

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

func TestForgetRoutes(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	_, err := space.RememberBatch(t.Context(), []engram.Memory{
		{ID: "a", Content: "x"},
		{ID: "b", Content: "x"},
		{ID: "c", Content: "x"},
		{ID: "d", Content: "x", Episode: "one"},
		{ID: "e", Content: "x", Episode: "one"},
	})
	require.NoError(t, err)
	const target = "/v1/spaces/alpha"
	var receipt engram.ForgetReceipt
	f.call("DELETE", target+"/memories/a", "").into(200, &receipt)
	require.Equal(t, 1, receipt.Forgotten)
	f.call("DELETE", target+"/memories/a", "").into(200, &receipt)
	require.Zero(t, receipt.Forgotten)
	f.call("POST", target+"/forget", `{"ids":["b","c","unknown"]}`).into(200, &receipt)
	require.Equal(t, 2, receipt.Forgotten)

	var answer forgetWhereAnswer
	dry := f.call("POST", target+"/forget-where", `{"filter":{"episode":"one"},"dry_run":true}`)
	dry.into(200, &answer)
	require.Equal(t, forgetWhereAnswer{ForgetReceipt: engram.ForgetReceipt{Seq: space.Info().Seq, Forgotten: 2}, DryRun: true}, answer)
	require.Equal(t, 2, memoryCount(t, space))

	// What was counted is what is forgotten, or nothing is.
	remember(t, space, "meanwhile")
	f.call("POST", target+"/forget-where", `{"filter":{"episode":"one"}}`, "If-Match", dry.header.Get("ETag")).problem(412, "conflict")
	require.Equal(t, 3, memoryCount(t, space))
	dry = f.call("POST", target+"/forget-where", `{"filter":{"episode":"one"},"dry_run":true}`)
	answer = forgetWhereAnswer{}
	f.call("POST", target+"/forget-where", `{"filter":{"episode":"one"}}`, "If-Match", dry.header.Get("ETag")).into(200, &answer)
	require.Equal(t, 2, answer.Forgotten)
	require.False(t, answer.DryRun)
	require.Equal(t, 1, memoryCount(t, space))

	for _, body := range []string{
		`{"filter":{}}`, `{"filter":{},"dry_run":true}`, `{}`, `{"filter":{"kind":"odd"},"dry_run":true}`,
		`{"filter":{"attributes":{}}}`, `{"filter":{"attributes":{}},"dry_run":true}`,
		`{"filter":{"after":"0001-01-01T00:00:00+00:00"},"dry_run":true}`,
	} {
		f.call("POST", target+"/forget-where", body).problem(422, "invalid")
	}
	for _, body := range []string{`{"filter":{"episod":"one"}}`, `{"filter":{"episode":"one"},"dry_run":"yes"}`, `{"ids":["a"]}`} {
		f.call("POST", target+"/forget-where", body).problem(400, "malformed-body")
	}
	f.call("POST", target+"/forget-where?dry_run=true", `{"filter":{"kind":"episodic"}}`).problem(400, "malformed-request")
	require.Equal(t, 1, memoryCount(t, space))
}

// TestTheZeroTimeIsNoCondition: a filter that has it is refused, over every transport,
// and does not take what the rest of it leaves.
func TestTheZeroTimeIsNoCondition(t *testing.T) {
	w := newWired(t, Options{})
	remember(t, w.create("alpha"), "kept")
	const filter = `"filter":{"kind":"episodic","before":"0001-01-01T00:00:00Z"}`
	for path, body := range map[string]string{
		"forget-where": `{` + filter + `}`, "recall": `{"text":"kept",` + filter + `}`,
		"memories": `{"content":"x","time":"0001-01-01T00:00:00Z"}`,
	} {
		r := w.call("POST", "/v1/spaces/alpha/"+path, body)
		require.Contains(t, r.problem(422, "invalid").Detail, "zero time", path)
	}
	w.call("GET", "/v1/spaces/alpha/memories?kind=episodic&before=0001-01-01T00:00:00Z", "").problem(400, "malformed-request")

	message := &engramv1.Filter{Kind: "episodic", Before: &timestamppb.Timestamp{Seconds: time.Time{}.Unix()}}
	_, err := w.memories.ForgetWhere(t.Context(), &engramv1.ForgetWhereRequest{MemorySpaceId: "alpha", Filter: message})
	refused(t, err, codes.InvalidArgument, "INVALID")
	_, err = w.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: &engramv1.Cue{Text: "kept", Filter: message}})
	refused(t, err, codes.InvalidArgument, "INVALID")
	_, err = w.memories.ListMemories(t.Context(), &engramv1.ListMemoriesRequest{MemorySpaceId: "alpha", Filter: message})
	refused(t, err, codes.InvalidArgument, "INVALID")

	agent := w.connect(w.live(), "?space=alpha")
	for _, tool := range []string{"recall", "list"} {
		agent.refused("invalid", tool, arguments{"kind": "episodic", "before": "0001-01-01T00:00:00Z"})
	}

	require.Contains(t, w.call("GET", "/v1/spaces/alpha/memories", "").body, "kept")
}

// TestNothingIsNoCondition: nor is a null, or an empty text, of a variable that is not
// set. Both are told from what is absent.
func TestNothingIsNoCondition(t *testing.T) {
	f := newFixture(t, Options{})
	remember(t, f.create("alpha"), "kept")
	agent := f.connect(f.live(), "?space=alpha")
	for _, c := range []struct {
		field string
		value any
	}{
		{"episode", ""},
		{"kind", ""},
		{"episode", nil},
		{"kind", nil},
		{"before", nil},
		{"attributes", nil},
	} {
		said, err := json.Marshal(c.value)
		require.NoError(t, err)
		filter := fmt.Sprintf(`"filter":{"after":"2020-01-01T00:00:00Z",%q:%s}`, c.field, said)
		for path, body := range map[string]string{
			"forget-where": `{` + filter + `}`, "forget-where?space=alpha": `{` + filter + `,"dry_run":true}`,
			"recall": `{"text":"kept",` + filter + `}`,
		} {
			p := f.call("POST", "/v1/spaces/alpha/"+path, body).problem(400, "malformed-body")
			require.Contains(t, p.Detail, "filter."+c.field, path)
		}
		for _, tool := range []string{"recall", "list"} {
			agent.refused("malformed-body", tool, arguments{c.field: c.value})
		}
	}
	f.call("POST", "/v1/spaces/alpha/forget-where", `{"filter":{"after":null,"kind":"episodic"}}`).problem(400, "malformed-body")
	f.call("POST", "/v1/spaces/alpha/forget-where", `{"filter":{"kind":"episodic"},"dry_run":null}`).problem(400, "malformed-body")
	require.Contains(t, f.call("GET", "/v1/spaces/alpha/memories", "").body, "kept")
}

func TestPutMemory(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	f.call("PUT", "/v1/spaces/alpha/memories/a%2Fb", `{"content":"x"}`).into(200, new(engram.Receipt))
	f.call("PUT", "/v1/spaces/alpha/memories/a%2Fb", `{"id":"a/b","content":"y"}`).into(200, new(engram.Receipt))
	f.call("PUT", "/v1/spaces/alpha/memories/a", `{"id":"b","content":"x"}`).problem(400, "malformed-body")
	f.call("PUT", "/v1/spaces/alpha/memories/a", `{"memories":[]}`).problem(400, "malformed-body")
	var memory engram.Memory
	f.call("GET", "/v1/spaces/alpha/memories/a%2Fb", "").into(200, &memory)
	require.Equal(t, "y", memory.Content)
	f.call("GET", "/v1/spaces/alpha/memories/a", "").problem(404, "memory-not-found")
}

func TestAssociationRoutes(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	_, err := space.RememberBatch(t.Context(), []engram.Memory{{ID: "a", Content: "x"}, {ID: "b", Content: "x"}})
	require.NoError(t, err)
	const target = "/v1/spaces/alpha"
	list := func() []engram.Association {
		t.Helper()
		var answer associationPage
		f.call("GET", target+"/memories/a/associations", "").into(200, &answer)
		return answer.Associations
	}
	require.Contains(t, f.call("GET", target+"/memories/a/associations", "").body, `"associations":[]`)
	f.call("POST", target+"/associations", `{"from":"a","to":"b","kind":"next","weight":0.5}`).into(200, new(seqAnswer))
	require.Equal(t, []engram.Association{{From: "a", To: "b", Kind: "next", Weight: 0.5}}, list())
	f.call("DELETE", target+"/associations?from=a&to=b", "").into(200, new(seqAnswer))
	require.Len(t, list(), 1, "of another kind")
	f.call("DELETE", target+"/associations?from=a&to=b&kind=next", "").into(200, new(seqAnswer))
	require.Empty(t, list())

	f.call("POST", target+"/associations", `{"from":"a","to":"nobody","weight":0.5}`).problem(404, "memory-not-found")
	f.call("POST", target+"/associations", `{"from":"a","to":"b","weight":2}`).problem(422, "invalid")
	f.call("DELETE", target+"/associations?from=a", "").problem(422, "invalid")
	f.call("DELETE", target+"/associations?from=a&to=b&kid=next", "").problem(400, "malformed-request")
	f.call("GET", target+"/memories/nobody/associations", "").problem(404, "memory-not-found")
}
