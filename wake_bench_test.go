package engram

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkWake asks a space that sleeps: for a memory by its id, which wakes it, and
// then a cue of three words for the first time, which makes what it lacks of the
// indexes. What was stored is in a checkpoint, or in the log alone.
func BenchmarkWake(b *testing.B) {
	for _, what := range []struct {
		memories, dimension int
		checkpoint          bool
	}{
		{1_000, 0, true}, {1_000, 768, true}, {100_000, 0, true}, {1_000, 0, false}, {20_000, 0, false},
	} {
		b.Run(fmt.Sprintf("memories=%d/dimension=%d/checkpoint=%v", what.memories, what.dimension, what.checkpoint), func(b *testing.B) {
			opts := Options{Durability: None}
			opts.seams.checkpointBytes = math.MaxInt64 // none but those that are asked for
			s := benchSpaces(b, openBench(b, opts), 1)[0]
			m := newBenchMemory(what.dimension)
			m.fill(b, s, what.memories)
			if what.checkpoint {
				require.NoError(b, s.Checkpoint(b.Context()))
			}
			var wakes, recalls []time.Duration
			for b.Loop() {
				s.sleep()
				require.Nil(b, s.awake.Load())
				began := time.Now()
				_, err := s.Lookup(b.Context(), strconv.Itoa(what.memories/2))
				wakes = append(wakes, time.Since(began))
				require.NoError(b, err)
				began = time.Now()
				_, err = s.Recall(b.Context(), Cue{Text: m.words.text(3)})
				recalls = append(recalls, time.Since(began))
				require.NoError(b, err)
			}
			slices.Sort(wakes)
			slices.Sort(recalls)
			median := wakes[len(wakes)/2]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median.Seconds()*1e3, "p50-ms/wake")
			b.ReportMetric(wakes[len(wakes)*99/100].Seconds()*1e3, "p99-ms/wake")
			b.ReportMetric(float64(what.memories)/median.Seconds(), "memories/s")
			b.ReportMetric(recalls[len(recalls)/2].Seconds()*1e3, "p50-ms/first-recall")
		})
	}
}

// BenchmarkAsleep opens a directory of many spaces, ENGRAM_BENCH_SPACES or 2,000, with
// a memory in each, and looks them up by their ids without waking one.
func BenchmarkAsleep(b *testing.B) {
	spaces := 2_000
	if given := os.Getenv("ENGRAM_BENCH_SPACES"); given != "" {
		var err error
		spaces, err = strconv.Atoi(given)
		require.NoError(b, err)
	}
	dir := b.TempDir()
	r, err := Open(dir, Options{Durability: None})
	require.NoError(b, err)
	began := time.Now()
	for i := range spaces {
		s, err := r.Create(b.Context(), SpaceID(fmt.Sprintf("tenant-%06d", i)), SpaceConfig{})
		require.NoError(b, err)
		_, err = s.Remember(b.Context(), Memory{Content: "Prefers window seats."})
		require.NoError(b, err)
		s.sleep()
	}
	create := time.Since(began)
	require.NoError(b, r.Close())
	var opens []time.Duration
	for b.Loop() {
		before := heapInUse()
		began := time.Now()
		r, err := Open(dir, Options{Durability: None})
		opens = append(opens, time.Since(began))
		require.NoError(b, err)
		b.ReportMetric(float64(heapInUse()-before)/float64(spaces), "B/space")
		ids := make([]SpaceID, 0, spaces)
		for id := range r.Spaces("") {
			ids = append(ids, id)
		}
		require.Len(b, ids, spaces)
		for _, threads := range []int{1, 2} {
			const looks = 1_000_000 // of each thread
			var work sync.WaitGroup
			began := time.Now()
			for thread := range threads {
				work.Go(func() {
					for i := range looks {
						if _, err := r.Get(context.Background(), ids[(i*7919+thread*spaces/2)%spaces]); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			work.Wait()
			b.ReportMetric(float64(time.Since(began).Nanoseconds())/looks, fmt.Sprintf("ns/get-%d", threads))
		}
		require.Zero(b, r.Stats().Awake)
		require.NoError(b, r.Close())
	}
	slices.Sort(opens)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(create.Seconds()*1e3/float64(spaces), "ms/create")
	b.ReportMetric(opens[len(opens)/2].Seconds()*1e3, "ms/open")
}
