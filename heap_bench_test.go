package engram

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkHeap reports what one memory of 200 bytes of text costs in memory
// while its space is awake, written and then woken from its checkpoint.
func BenchmarkHeap(b *testing.B) {
	const memories = 20_000
	for b.Loop() {
		ctx := context.Background()
		r := openBench(b, Options{Durability: None})
		words := newBenchWords(7)
		before := heapInUse()
		s := benchSpaces(b, r, 1)[0]
		batch := make([]Memory, 0, MaxBatch)
		for i := range memories {
			batch = append(batch, Memory{Content: words.text(29), Episode: fmt.Sprint("episode ", i/20)})
			if len(batch) == cap(batch) || i == memories-1 {
				_, err := s.RememberBatch(ctx, batch)
				require.NoError(b, err)
				batch = batch[:0]
			}
		}
		b.ReportMetric(float64(heapInUse()-before)/memories, "written-B/memory")
		require.NoError(b, s.Checkpoint(ctx))
		s.sleep()
		_, err := s.Recall(ctx, Cue{Text: words.text(3)})
		require.NoError(b, err)
		b.ReportMetric(float64(heapInUse()-before)/memories, "woken-B/memory")
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
