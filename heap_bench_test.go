package engram

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkHeap reports what one memory costs in memory while its space is awake,
// written and then woken from its checkpoint, and what the registry takes it for: of
// 200 bytes of text, of four words with attributes, with an embedding, with five
// associations, and of a space that holds nothing else.
func BenchmarkHeap(b *testing.B) {
	for _, shape := range []heapShape{
		{name: "text", spaces: 1, memories: 20_000, words: 29},
		{name: "short", spaces: 1, memories: 20_000, words: 4, attributes: true},
		{name: "embedding", spaces: 1, memories: 20_000, words: 29, dimension: 768},
		{name: "associated", spaces: 1, memories: 5_000, words: 29, associations: 5},
		{name: "spaces", spaces: 200, memories: 1, words: 29},
	} {
		b.Run(shape.name, shape.run)
	}
}

// heapShape is what a registry is filled with.
type heapShape struct {
	name             string
	spaces, memories int
	words, dimension int
	attributes       bool
	associations     int // of each memory, to those before it
}

func (x *heapShape) run(b *testing.B) {
	n := float64(x.spaces * x.memories)
	for b.Loop() {
		ctx := context.Background()
		r := openBench(b, Options{Durability: None})
		source := newBenchMemory(x.dimension)
		// What the registry keeps for itself is there before.
		warm := benchSpaces(b, r, 1)[0]
		first := *x
		first.memories = min(x.memories, MaxBatch)
		first.fill(b, warm, source)
		require.NoError(b, warm.Checkpoint(ctx))
		require.NoError(b, r.Delete(ctx, warm.ID()))
		before := heapInUse()
		report := func(when string) {
			heap := float64(heapInUse() - before)
			b.ReportMetric(heap/n, when+"-B/memory")
			b.ReportMetric(float64(r.Stats().AwakeBytes)/heap, when+"-counted/heap")
		}
		spaces := benchSpaces(b, r, x.spaces)
		for _, s := range spaces {
			x.fill(b, s, source)
		}
		for _, s := range spaces {
			s.awake.Load().maintenance.running.Lock() // not while a checkpoint is under way
		}
		report("written")
		for _, s := range spaces {
			s.awake.Load().maintenance.running.Unlock()
		}
		for _, s := range spaces {
			require.NoError(b, s.Checkpoint(ctx))
			s.sleep()
			_, err := s.Recall(ctx, Cue{Text: source.words.text(3)})
			require.NoError(b, err)
		}
		report("woken")
		runtime.KeepAlive(source) // it was there before, too
	}
}

func (x *heapShape) fill(b *testing.B, s *Space, source *benchMemory) {
	ctx := context.Background()
	batch := make([]Memory, 0, MaxBatch)
	for i := range x.memories {
		m := Memory{
			ID: fmt.Sprint("memory ", i), Content: source.words.text(x.words), Episode: fmt.Sprint("episode ", i/20),
			Embedding: source.embedding(),
		}
		if x.attributes {
			m.Attributes = map[string]string{"user": fmt.Sprint(i % 50), "source": fmt.Sprint("document ", i)}
		}
		batch = append(batch, m)
		if len(batch) == cap(batch) || i == x.memories-1 {
			_, err := s.RememberBatch(ctx, batch)
			require.NoError(b, err)
			batch = batch[:0]
		}
	}
	for i := range x.memories {
		for j := range min(x.associations, i) {
			_, err := s.Associate(ctx, Association{
				From: fmt.Sprint("memory ", i), To: fmt.Sprint("memory ", i*j/x.associations), Weight: 0.5,
			})
			require.NoError(b, err)
		}
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
