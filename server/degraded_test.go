package server

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/engramv1"
)

// forgetfulEmbedder makes vectors of memories, and none of cues.
type forgetfulEmbedder struct{ namedEmbedder }

func (forgetfulEmbedder) EmbedQuery(_ context.Context, text string) ([]float32, error) {
	return nil, errors.New("no vector of " + text)
}

// TestDegradedRecallsAreCounted over every transport, and said in the log once, without
// the cue.
func TestDegradedRecallsAreCounted(t *testing.T) {
	registry, err := engram.Open(t.TempDir(), engram.Options{Embedder: forgetfulEmbedder{"one"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, registry.Close()) })
	core, logs := observer.New(zap.WarnLevel)
	f := &fixture{t: t, registry: registry, server: New(registry, Options{Logger: zap.New(core)})}
	w := wireTo(t, f)
	space := w.create("alpha")
	agent := w.connect(w.live(), "?space=alpha")

	recallAll := func() {
		w.call("POST", "/v1/spaces/alpha/recall", `{"text":"canary"}`).into(200, new(engram.Recall))
		_, err := w.memories.Recall(t.Context(), &engramv1.RecallRequest{MemorySpaceId: "alpha", Cue: &engramv1.Cue{Text: "canary"}})
		require.NoError(t, err)
		ok[recallResult](agent, "recall", arguments{"text": "canary"})
	}
	recallAll() // of nothing, which is not worse
	require.NotContains(t, w.admin("localhost", "/metrics", false).body, "engram_recalls_degraded_total{")

	rememberEmbedded(t, space)
	recallAll()
	w.requireCounted(
		`engram_recalls_degraded_total{reason="embedder_failed",transport="http"} 1`,
		`engram_recalls_degraded_total{reason="embedder_failed",transport="grpc"} 1`,
		`engram_recalls_degraded_total{reason="embedder_failed",transport="mcp"} 1`,
	)
	require.Len(t, logs.All(), 1)
	require.Contains(t, logs.All()[0].Message, "the embedder fails")
	require.Equal(t, map[string]any{"recalls": int64(1)}, logs.All()[0].ContextMap())
}

func TestDegradedRecallsAreSaidOnceAMinute(t *testing.T) {
	var d degradedRecalls
	now := time.Now()
	require.Equal(t, 1, d.add(now))
	require.Equal(t, 0, d.add(now))
	require.Equal(t, 0, d.add(now.Add(degradedPause-1)))
	require.Equal(t, 3, d.add(now.Add(degradedPause)))
	require.Equal(t, 0, d.add(now.Add(degradedPause)))
}
