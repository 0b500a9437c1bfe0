package peers

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/philippgille/chromem-go"
	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
	"github.com/engramdb/engram/internal/simd"
)

const (
	dimension       = 768
	vectorQuestions = 50
	wanted          = 10   // of the nearest
	leastRecall     = 0.99 // of them, by hnswlib
)

// graph is hnswlib, filled.
type graph struct {
	filled     time.Duration // how long that took
	bytes      int64
	candidates int // of a search
	recall     float64
	search     func(i int) []int
}

// BenchmarkVector asks for the ten nearest of embeddings of 768 dimensions. Ours reads
// their memories too, where hnswlib is asked for numbers alone.
func BenchmarkVector(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("memories=%d", n), func(b *testing.B) {
			stored, cues := vectors(1, n, dimension), vectors(2, vectorQuestions, dimension)
			memories := make([]engram.Memory, n)
			for i, v := range stored {
				memories[i] = engram.Memory{ID: strconv.Itoa(i), Embedding: v}
			}
			began := time.Now()
			s := openSpace(b, memories)
			filled := time.Since(began)
			recall := func(i int) []engram.Recollection {
				found, err := s.Recall(background, engram.Cue{Embedding: cues[i], Limit: wanted})
				require.NoError(b, err)
				return found.Recollections
			}
			ours, peers := engine{"engram", func(i int) { recall(i) }}, []engine{askChromem(b, stored, cues)}
			nearest := exactly(stored, cues)
			g := fillHNSW(b, stored, cues, nearest, leastRecall)
			if g != nil {
				peers = append(peers, engine{"hnswlib", func(i int) { g.search(i) }})
			}
			compare(b, vectorQuestions, ours, peers...)
			b.ReportMetric(share(nearest, func(i int) []int { return numbersOf(b, recall(i)) }), "recall")
			if g != nil {
				b.ReportMetric(g.recall, "recall-hnswlib")
				b.ReportMetric(float64(g.candidates), "ef-hnswlib")
				b.ReportMetric(float64(g.bytes)/float64(n), "B-hnswlib")
				b.ReportMetric(float64(g.filled)/float64(filled), "x-hnswlib-filling")
			}
		})
	}
}

func numbersOf(b *testing.B, list []engram.Recollection) []int {
	numbers := make([]int, len(list))
	for i := range list {
		var err error
		numbers[i], err = strconv.Atoi(list[i].Memory.ID)
		require.NoError(b, err)
	}
	return numbers
}

// exactly returns the numbers of the stored vectors that are nearest to each cue.
func exactly(stored, cues [][]float32) [][]int {
	lists := make([][]int, len(cues))
	for i, cue := range cues {
		products, numbers := make([]float32, len(stored)), make([]int, len(stored))
		for j, v := range stored {
			products[j], numbers[j] = simd.Best().Dot(v, cue), j
		}
		slices.SortFunc(numbers, func(a, b int) int { return cmp.Compare(products[b], products[a]) })
		lists[i] = numbers[:wanted]
	}
	return lists
}

// share is how much of what is nearest is found.
func share(nearest [][]int, found func(i int) []int) float64 {
	hits := 0
	for i, list := range nearest {
		for _, number := range found(i) {
			if slices.Contains(list, number) {
				hits++
			}
		}
	}
	return float64(hits) / float64(len(nearest)*wanted)
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
		_, err := collection.QueryEmbedding(background, cues[i], wanted, nil, nil)
		require.NoError(b, err)
	}}
}
