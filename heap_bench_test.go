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

// BenchmarkRecallSize asks three-word cues of larger and larger spaces, whose
// memories are in the image of a checkpoint.
func BenchmarkRecallSize(b *testing.B) {
	for _, memories := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("memories=%d", memories), func(b *testing.B) {
			ctx := context.Background()
			r := openBench(b, Options{Durability: None})
			words := newBenchWords(7)
			s := benchSpaces(b, r, 1)[0]
			for from := 0; from < memories; from += 1000 {
				batch := make([]Memory, 1000)
				for i := range batch {
					batch[i] = Memory{Content: words.text(20), Episode: fmt.Sprint("episode ", (from+i)/20)}
				}
				_, err := s.RememberBatch(ctx, batch)
				require.NoError(b, err)
			}
			require.NoError(b, s.Checkpoint(ctx))
			cues := make([]string, 256)
			for i := range cues {
				cues[i] = words.text(3)
			}
			for i := 0; b.Loop(); i++ {
				_, err := s.Recall(ctx, Cue{Text: cues[i%len(cues)]})
				require.NoError(b, err)
			}
		})
	}
}
