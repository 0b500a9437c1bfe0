package peers

import (
	"fmt"
	"io"
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
// themselves read and verified. Bleve is asked for ids, and for the texts too.
func BenchmarkText(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			contents, cues := texts(1, n, 20), texts(2, textQuestions, 3)
			s := openSpace(b, textMemories(contents))
			ours := engine{"engram", func(i int) {
				_, err := s.Recall(background, engram.Cue{Text: cues[i]})
				require.NoError(b, err)
			}}
			index := stay(b, fillBleve(b, contents))
			peers := []engine{
				askBleve(b, "bleve", index, cues),
				askBleve(b, "bleve-texts", index, cues, "content"),
			}
			if haveFTS {
				peers = append(peers, askFTS(b, stay(b, fillFTS(b, contents)), cues))
			}
			compare(b, textQuestions, ours, peers...)
		})
	}
}

// BenchmarkLoad fills each engine, on disk, each batch durable, and closes it, so that
// nothing that it has begun is left to the round of another. Where an engine leaves
// off is its own: ours with what came last in its log, FTS5 with all in its tables.
// Beside it stands ours with all in a checkpoint.
func BenchmarkLoad(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			contents := texts(1, n, 20)
			load := func(name string, fill func() io.Closer) engine {
				return engine{name, func(int) { require.NoError(b, fill().Close()) }}
			}
			ours := load("engram", func() io.Closer {
				r, _ := fillSpace(b, textMemories(contents))
				return r
			})
			peers := []engine{
				load("checkpointed", func() io.Closer {
					r, s := fillSpace(b, textMemories(contents))
					require.NoError(b, s.Checkpoint(background))
					return r
				}),
				load("bleve", func() io.Closer { return fillBleve(b, contents) }),
			}
			if haveFTS {
				peers = append(peers, load("fts5", func() io.Closer { return fillFTS(b, contents) }))
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

func fillBleve(b *testing.B, contents []string) bleve.Index {
	b.Helper()
	mapping := bleve.NewIndexMapping()
	mapping.DefaultAnalyzer = simple.Name
	index, err := bleve.New(filepath.Join(b.TempDir(), "bleve"), mapping)
	require.NoError(b, err)
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

func askBleve(b *testing.B, name string, index bleve.Index, cues []string, fields ...string) engine {
	return engine{name, func(i int) {
		request := bleve.NewSearchRequest(bleve.NewMatchQuery(cues[i]))
		request.Fields = fields
		_, err := index.Search(request)
		require.NoError(b, err)
	}}
}
