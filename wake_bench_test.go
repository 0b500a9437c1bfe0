package engram

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkWake asks a space that sleeps: for a memory by its id, which wakes it, and
// then a cue of three words for the first time, which makes what it lacks of the
// indexes. What was stored is in a checkpoint, in the log alone, or, one memory at a time,
// in what checkpoints fell due and in the log behind the last.
func BenchmarkWake(b *testing.B) {
	for _, what := range []struct {
		memories, dimension int
		from                string
	}{
		{1_000, 0, "checkpoint"},
		{1_000, 768, "checkpoint"},
		{100_000, 0, "checkpoint"},
		{1_000, 0, "log"},
		{20_000, 0, "log"},
		{200, 0, "both"},
		{1_000, 0, "both"},
		{3_000, 0, "both"},
	} {
		b.Run(fmt.Sprintf("memories=%d/dimension=%d/from=%s", what.memories, what.dimension, what.from), func(b *testing.B) {
			opts := Options{Durability: None}
			if what.from != "both" {
				opts.seams.checkpointBytes = math.MaxInt64 // none but those that are asked for
			}
			r := openBench(b, opts)
			s := benchSpaces(b, r, 1)[0]
			m := newBenchMemory(what.dimension)
			if what.from == "both" {
				for _, one := range m.batch(0, what.memories) {
					_, err := s.Remember(b.Context(), one)
					require.NoError(b, err)
				}
				for s.sleep(); s.awake.Load() != nil; s.sleep() {
					time.Sleep(time.Millisecond) // a checkpoint is under way
				}
			} else {
				m.fill(b, s, what.memories)
			}
			if what.from == "checkpoint" {
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
			b.ReportMetric(float64(r.Stats().AwakeBytes)/float64(what.memories), "B/memory")
		})
	}
}

// BenchmarkBudget asks 64 spaces of 1,000 memories for one by its id, in turn, where the
// budget has room for all of them, and where it has for half: then each wakes, and another
// falls asleep. Writers store one beside, so that it has to be settled, too. What is over
// the budget at most is a share of it.
func BenchmarkBudget(b *testing.B) {
	const spaces, memories = 64, 1_000
	dir := b.TempDir()
	r, err := Open(dir, Options{})
	require.NoError(b, err)
	m := newBenchMemory(0)
	all := int64(0) // that they take once woken
	for _, s := range benchSpaces(b, r, spaces) {
		m.fill(b, s, memories)
		require.NoError(b, s.Checkpoint(b.Context()))
		s.sleep()
		require.NoError(b, askForOne(b.Context(), r, s.ID(), false))
		all += s.awake.Load().bytes.Load()
	}
	require.NoError(b, r.Close())
	for _, what := range []struct {
		share   float64
		callers int
		writes  bool
	}{
		{1.1, 1, false}, {0.5, 1, false}, {0.5, 8, false}, {1.1, 8, true}, {0.5, 8, true},
	} {
		b.Run(fmt.Sprintf("room=%v/callers=%d/writes=%v", what.share, what.callers, what.writes), func(b *testing.B) {
			budget := int64(what.share * float64(all))
			r, err := Open(dir, Options{MemoryBudget: budget})
			require.NoError(b, err)
			var l latencies
			var most atomic.Int64
			began := time.Now()
			for b.Loop() {
				var work sync.WaitGroup
				for caller := range what.callers {
					work.Go(func() {
						own := make([]time.Duration, spaces)
						for i := range own {
							began := time.Now()
							id := SpaceID(fmt.Sprintf("space-%03d", (i+caller*spaces/what.callers)%spaces))
							if err := askForOne(b.Context(), r, id, what.writes); err != nil {
								b.Error(err)
								return
							}
							own[i] = time.Since(began)
							raise(&most, r.Stats().AwakeBytes)
						}
						l.add(own)
					})
				}
				work.Wait()
			}
			l.report(b, time.Since(began))
			b.ReportMetric(float64(most.Load())/float64(budget), "most/budget")
			b.ReportMetric(float64(r.Stats().Wakings)/float64(len(l.all)), "wakings/op")
			require.NoError(b, r.Close())
		})
	}
}

// askForOne looks a memory of the space up, and stores one before, if it writes.
func askForOne(ctx context.Context, r *Registry, id SpaceID, writes bool) error {
	s, err := r.Get(ctx, id)
	if err == nil && writes {
		_, err = s.Remember(ctx, Memory{ID: "another", Content: "It is stored before it is asked for."})
	}
	if err == nil {
		_, err = s.Lookup(ctx, "500")
	}
	return err
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
