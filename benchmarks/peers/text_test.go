package peers

import (
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/analysis/analyzer/simple"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

const textQuestions = 200

// BenchmarkText asks for the ten best of the texts that have any of three words.
// Ours includes what the others have not: neighbours, episodes, the memories
// themselves read and verified.
func BenchmarkText(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			contents, cues := texts(1, n, 20), texts(2, textQuestions, 3)
			s := openSpace(b, textMemories(contents))
			ours := engine{"engram", func(i int) {
				_, err := s.Recall(background, engram.Cue{Text: cues[i]})
				require.NoError(b, err)
			}}
			peers := []engine{askBleve(b, openBleve(b, contents), cues)}
			if db := openFTS(b, contents); db != nil {
				peers = append(peers, askFTS(b, db, cues))
			}
			compare(b, textQuestions, ours, peers...)
		})
	}
}

// BenchmarkLoad fills each engine, on disk, durable at the end.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			contents := texts(1, n, 20)
			load := func(fill func()) engine {
				return engine{ask: func(int) { fill() }}
			}
			ours := load(func() { openSpace(b, textMemories(contents)) })
			ours.name = "engram"
			theirs := load(func() { openBleve(b, contents) })
			theirs.name = "bleve"
			peers := []engine{theirs}
			if haveFTS {
				fts := load(func() { openFTS(b, contents) })
				fts.name = "fts5"
				peers = append(peers, fts)
			}
			compare(b, 1, ours, peers...)
		})
	}
}

func textMemories(contents []string) []engram.Memory {
	memories := make([]engram.Memory, len(contents))
	start := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, content := range contents {
		memories[i] = engram.Memory{
			ID: strconv.Itoa(i), Content: content, Episode: fmt.Sprint("episode ", i/20),
			Time: start.Add(time.Duration(i) * time.Minute),
		}
	}
	return memories
}

func openBleve(b *testing.B, contents []string) bleve.Index {
	b.Helper()
	mapping := bleve.NewIndexMapping()
	mapping.DefaultAnalyzer = simple.Name
	index, err := bleve.New(filepath.Join(b.TempDir(), "bleve"), mapping)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, index.Close()) })
	batch := index.NewBatch()
	for i, content := range contents {
		require.NoError(b, batch.Index(strconv.Itoa(i), map[string]string{"content": content}))
		if batch.Size() == 1000 || i == len(contents)-1 {
			require.NoError(b, index.Batch(batch))
			batch.Reset()
		}
	}
	return index
}

func askBleve(b *testing.B, index bleve.Index, cues []string) engine {
	return engine{"bleve", func(i int) {
		_, err := index.Search(bleve.NewSearchRequest(bleve.NewMatchQuery(cues[i])))
		require.NoError(b, err)
	}}
}
