package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/server/embed"
)

func TestEmbedderFlags(t *testing.T) {
	config := embed.Config{URL: "http://127.0.0.1:1", Model: "m", Dimension: 3}
	for service, id := range map[string]string{"openai": "openai/m/3", "ollama": "ollama/m/3"} {
		e, err := (&embedderFlags{service: service, config: config}).embedder("key")
		require.NoError(t, err)
		require.Equal(t, id, e.ID())
	}
	e, err := (&embedderFlags{}).embedder("a key alone asks for nothing")
	require.NoError(t, err)
	require.Nil(t, e)
	for _, f := range []embedderFlags{{config: config}, {service: "other", config: config}, {service: "openai"}} {
		_, err := f.embedder("")
		require.Error(t, err)
	}
	_, err = (&embedderFlags{service: "ollama", config: embed.Config{Model: "m", Dimension: 3}}).embedder("")
	require.ErrorContains(t, err, "--embedder-url")
}
