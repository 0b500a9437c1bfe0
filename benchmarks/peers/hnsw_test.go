//go:build cgo && hnswlib

package peers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/benchmarks/peers/hnswlib"
)

// fillHNSW returns hnswlib with the vectors and the fewest candidates that find so much
// of what is nearest.
func fillHNSW(b *testing.B, stored, cues [][]float32, nearest [][]int, least float64) *graph {
	b.Helper()
	began := time.Now()
	index := hnswlib.New(dimension, len(stored), 16, 200)
	b.Cleanup(index.Close)
	for i, v := range stored {
		index.Add(i, v)
	}
	g := &graph{filled: time.Since(began), bytes: index.Bytes(), search: func(i int) []int { return index.Search(cues[i], wanted) }}
	for g.candidates = wanted; ; g.candidates += max(1, g.candidates/8) {
		require.Less(b, g.candidates, len(stored))
		index.SetCandidates(g.candidates)
		if g.recall = share(nearest, g.search); g.recall >= least {
			return g
		}
	}
}
