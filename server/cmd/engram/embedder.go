package main

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/server/embed"
)

// embedderKeyVariable holds the key of the embedding service: a flag would show
// it to whoever lists processes.
const embedderKeyVariable = "ENGRAM_EMBEDDER_KEY"

// embedderFlags say which service makes vectors; by default none does.
type embedderFlags struct {
	service string
	config  embed.Config
}

func (f *embedderFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.service, "embedder", "", "service that makes vectors of memories and cues: openai or ollama; none if empty")
	flags.StringVar(&f.config.URL, "embedder-url", "", "its address, such as http://127.0.0.1:11434")
	flags.StringVar(&f.config.Model, "embedder-model", "", "its model")
	flags.IntVar(&f.config.Dimension, "embedder-dimension", 0, "dimension of the model's vectors")
}

// embedder returns nil where none is asked for.
func (f *embedderFlags) embedder(key string) (engram.Embedder, error) {
	config := f.config
	config.Key = key
	switch f.service {
	case "":
		if f.config != (embed.Config{}) {
			return nil, errors.New("--embedder-url, --embedder-model and --embedder-dimension are of no use without --embedder")
		}
		return nil, nil
	case "openai", "ollama":
	default:
		return nil, fmt.Errorf("--embedder %q: it is openai or ollama", f.service)
	}
	if config.URL == "" || config.Model == "" || config.Dimension == 0 {
		return nil, errors.New("--embedder needs --embedder-url, --embedder-model and --embedder-dimension")
	}
	if f.service == "ollama" {
		return embed.NewOllama(config)
	}
	return embed.NewOpenAI(config)
}
