package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// embeddingService answers as Ollama does, with vectors of the dimension.
func embeddingService(t *testing.T, dimension int, calls *atomic.Int64) string {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var call struct{ Input []string }
		if err := json.NewDecoder(r.Body).Decode(&call); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		var list [][]float32
		for _, text := range call.Input {
			v := make([]float32, dimension)
			v[len(text)%dimension] = 1
			list = append(list, v)
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"embeddings": list}); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(service.Close)
	return service.URL
}

func TestReembedCommand(t *testing.T) {
	sh := newShell(t)
	sh.run("space", "create", "alpha").ok()
	sh.run("space", "create", "beta").ok()
	sh.run("remember", "-s", "alpha", "the dog barks").ok()
	sh.run("remember", "-s", "beta", "a cat").ok()
	var calls atomic.Int64
	with := func(model, dimension string, url string, more ...string) []string {
		return append([]string{
			"space", "reembed", "alpha", "beta", "-o", "json", "--embedder", "ollama", "--embedder-url", url,
			"--embedder-model", model, "--embedder-dimension", dimension,
		}, more...)
	}
	four, eight := embeddingService(t, 4, &calls), embeddingService(t, 8, &calls)
	var got struct{ Spaces []reembedItem }
	sh.run("space", "reembed", "alpha").failed("--embedder")
	sh.run("--addr", "http://127.0.0.1:1", "space", "reembed", "alpha").failed("directory")
	sh.run(append(with("old", "4", four), "gamma")...).failed("not found")

	sh.run(with("old", "4", four)...).into(&got)
	require.Equal(t, []reembedItem{{"alpha", "ollama/old/4", true}, {"beta", "ollama/old/4", true}}, got.Spaces)
	sh.run(with("new", "8", eight, "--begin")...).into(&got)
	require.Len(t, got.Spaces, 2)
	sh.run(with("new", "8", eight)...).into(&got)
	require.Equal(t, []reembedItem{{"alpha", "ollama/new/8", true}, {"beta", "ollama/new/8", true}}, got.Spaces)
}
