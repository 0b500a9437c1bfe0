package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

func TestRememberAndLookup(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	moment := time.Date(2026, 3, 1, 12, 0, 0, 123, time.UTC)
	reply := f.call("POST", "/v1/spaces/alpha/memories", `{
		"id": "m/1 ü", "content": "Anna moved to Lisbon", "time": "2026-03-01T13:00:00.000000123+01:00",
		"episode": "chat-7", "attributes": {"who": "anna", "Who": "other"},
		"embedding": [0.25, -1, 0], "confidence": 0.5, "kind": "semantic"}`)
	var receipt engram.Receipt
	reply.into(http.StatusCreated, &receipt)
	require.Equal(t, "m/1 ü", receipt.ID)
	require.NotZero(t, receipt.Seq)

	location := reply.header.Get("Location")
	require.Equal(t, "/v1/spaces/alpha/memories/"+url.PathEscape(receipt.ID), location)
	var got engram.Memory
	f.call("GET", location, "").into(http.StatusOK, &got)
	require.False(t, got.StoredAt.IsZero())
	got.StoredAt = time.Time{}
	require.Equal(t, engram.Memory{
		ID: "m/1 ü", Content: "Anna moved to Lisbon", Time: moment, Episode: "chat-7",
		Attributes: map[string]string{"who": "anna", "Who": "other"}, Embedding: []float32{0.25, -1, 0},
		Confidence: 0.5, Kind: engram.Semantic, Space: "alpha", Seq: receipt.Seq,
	}, got)

	f.call("GET", "/v1/spaces/alpha/memories/other", "").problem(404, "memory-not-found")
	f.call("GET", "/v1/memories/"+url.PathEscape(receipt.ID), "", spaceHeader, "alpha").into(http.StatusOK, &got)
	for _, id := range []string{".", ".."} { // no steps of a path
		reply := f.call("POST", "/v1/spaces/alpha/memories", `{"id":"`+id+`","content":"x"}`)
		f.call("GET", reply.header.Get("Location"), "").into(http.StatusOK, &got)
		require.Equal(t, id, got.ID)
	}
}

// TestLookedUpMemoryCanBeSentBack: what the server returns, it takes, but in
// another space.
func TestLookedUpMemoryCanBeSentBack(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	other := f.create("beta")
	require.Equal(t, 201, f.call("POST", "/v1/spaces/alpha/memories", `{"id":"x","content":"x"}`).status)
	memory := f.call("GET", "/v1/spaces/alpha/memories/x", "").body
	require.Equal(t, 201, f.call("POST", "/v1/spaces/alpha/memories", memory).status)
	f.call("POST", "/v1/spaces/beta/memories", memory).problem(400, "wrong-space")
	f.call("POST", "/v1/spaces/beta/memories", `{"memories":[`+memory+`]}`).problem(400, "wrong-space")
	require.Zero(t, memoryCount(t, other))
}

func TestRememberBatch(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	var answer batchAnswer
	f.call("POST", "/v1/spaces/alpha/memories", `{"memories":[{"id":"a","content":"one"},{"content":"two"},{"id":"c","content":"three"}]}`).
		into(http.StatusCreated, &answer)
	require.Len(t, answer.Receipts, 3)
	require.Equal(t, "a", answer.Receipts[0].ID)
	require.NotEmpty(t, answer.Receipts[1].ID)
	require.Equal(t, "c", answer.Receipts[2].ID)
	require.Equal(t, 3, memoryCount(t, space))

	// One bad memory, and nothing of the batch is stored.
	bad := f.call("POST", "/v1/spaces/alpha/memories", `{"memories":[{"content":"four"},{"content":""}]}`).problem(422, "invalid")
	require.Contains(t, bad.Detail, "memory 1: content", "it says which one")
	f.call("POST", "/v1/spaces/alpha/memories", `{"memories":[{"content":"four"},null]}`).problem(400, "malformed-body")
	f.call("POST", "/v1/spaces/alpha/memories", `{"content":"four","memories":[]}`).problem(400, "malformed-body")
	f.call("POST", "/v1/spaces/alpha/memories", manyMemories(engram.MaxBatch+1, "x")).problem(422, "limit-exceeded")
	f.call("POST", "/v1/spaces/alpha/memories", manyMemories(5, strings.Repeat("x", engram.MaxContentBytes))).problem(422, "limit-exceeded")
	f.call("POST", "/v1/spaces/alpha/memories", `{"content":"`+strings.Repeat("x", engram.MaxContentBytes+1)+`"}`).problem(422, "limit-exceeded")
	require.Equal(t, 3, memoryCount(t, space))

	f.call("POST", "/v1/spaces/alpha/memories", manyMemories(engram.MaxBatch, "x")).into(http.StatusCreated, &answer)
	require.Len(t, answer.Receipts, engram.MaxBatch)
}

func manyMemories(n int, content string) string {
	return `{"memories":[` + strings.TrimSuffix(strings.Repeat(fmt.Sprintf(`{"content":%q},`, content), n), ",") + `]}`
}

// TestLargestMemoryFits: the bound on the body does not refuse what the
// library takes, in its longest spelling.
func TestLargestMemoryFits(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	memory := `{"content":"` + strings.Repeat(`\u0041`, engram.MaxContentBytes-1) + `"}`
	body := `{"memories":[` + memory + `,` + memory + `,` + memory + `]}`
	require.Less(t, len(body), maxRememberBody)
	require.Equal(t, 201, f.call("POST", "/v1/spaces/alpha/memories", body).status)
	f.call("POST", "/v1/spaces/alpha/memories", strings.Repeat(" ", maxRememberBody+1)).problem(413, "body-too-large")
}

func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	const target = "/v1/spaces/alpha/memories"
	var first, again engram.Receipt
	f.call("POST", target, `{"content":"once"}`, idempotencyHeader, "k1").into(201, &first)
	f.call("POST", target, `{"content":"once"}`, idempotencyHeader, "k1").into(201, &again)
	require.Equal(t, first, again)
	require.Equal(t, 1, memoryCount(t, space))
	f.call("POST", target, `{"content":"other"}`, idempotencyHeader, "k1").problem(422, "idempotency-key-reused")

	var batch, batchAgain batchAnswer
	f.call("POST", target, `{"memories":[{"content":"a"},{"content":"b"}]}`, idempotencyHeader, "k2").into(201, &batch)
	f.call("POST", target, `{"memories":[{"content":"a"},{"content":"b"}]}`, idempotencyHeader, "k2").into(201, &batchAgain)
	require.Equal(t, batch, batchAgain)
	require.Equal(t, 3, memoryCount(t, space))

	f.call("POST", target, `{"content":"x"}`, idempotencyHeader, "").problem(400, "malformed-request")
	f.call("POST", target, `{"content":"x"}`, idempotencyHeader, "a", idempotencyHeader, "b").problem(400, "malformed-request")
	f.call("POST", target, `{"content":"x"}`, idempotencyHeader, strings.Repeat("k", engram.MaxRequestIDBytes+1)).problem(422, "limit-exceeded")
	require.Equal(t, 3, memoryCount(t, space))

	// The key belongs to the space: another one knows nothing of it.
	f.create("beta")
	f.call("POST", "/v1/spaces/beta/memories", `{"content":"other"}`, idempotencyHeader, "k1").into(201, &again)
}

func TestMalformedBodiesStoreNothing(t *testing.T) {
	f := newFixture(t, Options{})
	space := f.create("alpha")
	for _, body := range []string{
		``, `null x`, `[]`, `"x"`, `{"content":"x"`, `{"content":"x"}}`, `{"content":"x"} {"content":"y"}`,
		`{"content":"x","contents":"y"}`, `{"Content":"x"}`, `{"content":"x","content":"x"}`,
		`{"content":"x","attributes":{"a":"1","a":"2"}}`, `{"content":"x","attributes":{"a":null}}`,
		`{"content":"x","embedding":[1,null]}`, `{"content":"x","embedding":[1e39]}`, `{"content":1}`,
		`{"content":"x","time":"yesterday"}`, `{"content":"\ud800"}`, "{\"content\":\"\xff\"}",
		`{"memories":[{"content":"x","content":"y"}]}`, `{"memories":{"content":"x"}}`, " null\n",
	} {
		f.call("POST", "/v1/spaces/alpha/memories", body).problem(400, "malformed-body")
	}
	for _, body := range []string{
		`{}`, `{"content":""}`, `{"content":"x","confidence":2}`, `{"content":"x","confidence":-1}`,
		`{"content":"x","kind":"odd"}`, `{"content":"x","embedding":[0]}`, `{"id":"a\u0000b","content":"x"}`,
		`{"content":"x","time":"0001-01-02T00:00:00Z"}`,
	} {
		f.call("POST", "/v1/spaces/alpha/memories", body).problem(422, "invalid")
	}
	require.Zero(t, memoryCount(t, space))
}

// TestAnswersAreWholeJSON: text with anything in it arrives as it was sent.
func TestAnswersAreWholeJSON(t *testing.T) {
	f := newFixture(t, Options{})
	f.create("alpha")
	content := "line\r\n\u2028<script>&\u0000\x7f\U0001F600 \\ \" end"
	body, err := json.Marshal(map[string]string{"id": "x", "content": content})
	require.NoError(t, err)
	require.Equal(t, 201, f.call("POST", "/v1/spaces/alpha/memories", string(body)).status)
	var got engram.Memory
	reply := f.call("GET", "/v1/spaces/alpha/memories/x", "")
	reply.into(200, &got)
	require.Equal(t, content, got.Content)
	require.Equal(t, "nosniff", reply.header.Get("X-Content-Type-Options"))
}
