package peers

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"testing"

	"github.com/philippgille/chromem-go"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

const (
	dimension       = 768
	vectorQuestions = 50
)

// BenchmarkVector asks for the ten nearest of embeddings of 768 dimensions.
func BenchmarkVector(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			stored, cues := vectors(1, n, dimension), vectors(2, vectorQuestions, dimension)
			memories := make([]engram.Memory, n)
			for i, v := range stored {
				memories[i] = engram.Memory{ID: strconv.Itoa(i), Embedding: v}
			}
			s := openSpace(b, memories)
			ours := engine{"engram", func(i int) {
				_, err := s.Recall(background, engram.Cue{Embedding: cues[i]})
				require.NoError(b, err)
			}}
			compare(b, vectorQuestions, ours, askChromem(b, stored, cues))
		})
	}
}

func askChromem(b *testing.B, stored, cues [][]float32) engine {
	b.Helper()
	never := func(context.Context, string) ([]float32, error) { panic("every document has its embedding") }
	collection, err := chromem.NewDB().CreateCollection("peers", nil, never)
	require.NoError(b, err)
	documents := make([]chromem.Document, len(stored))
	for i, v := range stored {
		documents[i] = chromem.Document{ID: strconv.Itoa(i), Embedding: v, Content: "-"}
	}
	require.NoError(b, collection.AddDocuments(background, documents, runtime.NumCPU()))
	return engine{"chromem", func(i int) {
		_, err := collection.QueryEmbedding(background, cues[i], 10, nil, nil)
		require.NoError(b, err)
	}}
}
