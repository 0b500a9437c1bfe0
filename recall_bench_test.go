package engram

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// benchMemory makes memories of 20 words in episodes of 20, with embeddings around
// one of 200 centres, as those of texts on common topics are; none with dimension 0.
type benchMemory struct {
	words   *benchWords
	random  *rand.Rand
	centres [][]float32
}

func newBenchMemory(dimension int) *benchMemory {
	m := &benchMemory{words: newBenchWords(7), random: rand.New(rand.NewPCG(7, 7))}
	if dimension > 0 {
		for range 200 {
			m.centres = append(m.centres, m.around(make([]float32, dimension)))
		}
	}
	return m
}

func (m *benchMemory) around(centre []float32) []float32 {
	v := slices.Clone(centre)
	for i := range v {
		v[i] += float32(m.random.NormFloat64())
	}
	return v
}

func (m *benchMemory) embedding() []float32 {
	if len(m.centres) == 0 {
		return nil
	}
	return m.around(m.centres[m.random.IntN(len(m.centres))])
}

func (m *benchMemory) batch(from, n int) []Memory {
	batch := make([]Memory, n)
	for i := range batch {
		batch[i] = Memory{
			ID: fmt.Sprint(from + i), Content: m.words.text(20), Embedding: m.embedding(),
			Episode: fmt.Sprint("episode ", (from+i)/20),
		}
	}
	return batch
}

// fill has the space remember n of them.
func (m *benchMemory) fill(b *testing.B, s *Space, n int) {
	b.Helper()
	for from := 0; from < n; from += 500 {
		_, err := s.RememberBatch(context.Background(), m.batch(from, min(500, n-from)))
		require.NoError(b, err)
	}
}

// benchSpace is a space that holds n such memories in the image of a checkpoint.
func benchSpace(b *testing.B, m *benchMemory, n int) *Space {
	b.Helper()
	s := benchSpaces(b, openBench(b, Options{Durability: None}), 1)[0]
	m.fill(b, s, n)
	require.NoError(b, s.Checkpoint(context.Background()))
	return s
}

// BenchmarkRecallSize asks cues of larger and larger spaces, whose memories are in
// the image of a checkpoint: three words, the same after a memory was forgotten and
// after every second one was, an embedding of 768 dimensions, or both.
func BenchmarkRecallSize(b *testing.B) {
	for _, kind := range []struct {
		name      string
		sizes     []int
		dimension int
		text      bool
		forgotten int // every so manyth; 0: none
	}{
		{"text", []int{1000, 10_000, 100_000}, 0, true, 0},
		{"forgotten", []int{1000, 10_000, 100_000}, 0, true, 1_000_000},
		{"halved", []int{10_000, 100_000}, 0, true, 2},
		{"embedding", []int{1000, 10_000}, 768, false, 0},
		{"both", []int{10_000}, 768, true, 0},
	} {
		for _, n := range kind.sizes {
			b.Run(fmt.Sprintf("%s/memories=%d", kind.name, n), func(b *testing.B) {
				m := newBenchMemory(kind.dimension)
				s := benchSpace(b, m, n)
				if kind.forgotten > 0 {
					forgetEvery(b, s, kind.forgotten, n)
				}
				var l latencies
				var own []time.Duration
				cues := benchCues(m, kind.text)
				start := time.Now()
				for i := 0; b.Loop(); i++ {
					began := time.Now()
					_, err := s.Recall(b.Context(), cues[i%len(cues)])
					require.NoError(b, err)
					own = append(own, time.Since(began))
				}
				l.add(own)
				l.report(b, time.Since(start))
			})
		}
	}
}

// forgetEvery has the space forget every so manyth of its n memories, the first one too.
func forgetEvery(b *testing.B, s *Space, every, n int) {
	b.Helper()
	var ids []string
	for i := 0; i < n; i += every {
		ids = append(ids, fmt.Sprint(i))
	}
	for batch := range slices.Chunk(ids, 500) {
		_, err := s.Forget(b.Context(), batch)
		require.NoError(b, err)
	}
}

func benchCues(m *benchMemory, text bool) []Cue {
	cues := make([]Cue, 256)
	for i := range cues {
		cues[i].Embedding = m.embedding()
		if text {
			cues[i].Text = m.words.text(3)
		}
	}
	return cues
}

// BenchmarkRecallTogether measures what a second core adds: the recalls of one
// thread and of one for each core take turns, and the ratio is that of how many
// they answer in the same time.
func BenchmarkRecallTogether(b *testing.B) {
	for _, dimension := range []int{0, 768} {
		b.Run(fmt.Sprintf("dimension=%d", dimension), func(b *testing.B) {
			m := newBenchMemory(dimension)
			s := benchSpace(b, m, 10_000)
			cues := benchCues(m, dimension == 0)
			const recalls = 256 // of each thread in a round
			round := func(threads int) float64 {
				var work sync.WaitGroup
				began := time.Now()
				for from := range threads {
					work.Go(func() {
						for i := range recalls {
							_, err := s.Recall(b.Context(), cues[(from*recalls/2+i)%len(cues)])
							require.NoError(b, err)
						}
					})
				}
				work.Wait()
				return float64(threads*recalls) / time.Since(began).Seconds()
			}
			var ratios []float64
			for b.Loop() {
				alone := round(1)
				ratios = append(ratios, round(runtime.GOMAXPROCS(0))/alone)
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ratio")
		})
	}
}

// BenchmarkCommitBesideRecalls measures what recalls cost a durable write of the
// same space. Writes alone, beside a thread that recalls from a space of another
// registry, and beside one that recalls from theirs take turns, and the ratios are
// those of the medians and of the 99th percentiles: elsewhere over alone is what a
// busy core costs, here over elsewhere what a write waits for recalls.
func BenchmarkCommitBesideRecalls(b *testing.B) {
	m := newBenchMemory(0)
	cues := benchCues(m, true)
	const filled, writes = 1000, 200 // memories at the beginning, and in a round
	fill := func() *Space {
		s := benchSpaces(b, openBench(b, Options{}), 1)[0]
		_, err := s.RememberBatch(b.Context(), m.batch(0, filled))
		require.NoError(b, err)
		return s
	}
	here, elsewhere := fill(), fill()
	next := filled
	write := func(took *[]time.Duration) {
		for range writes {
			one := m.batch(next, 1)
			next++
			began := time.Now()
			_, err := here.RememberBatch(b.Context(), one)
			*took = append(*took, time.Since(began))
			require.NoError(b, err)
		}
	}
	writeBesideRecalls := func(from *Space, took *[]time.Duration) {
		ctx, stop := context.WithCancel(b.Context())
		var recalls sync.WaitGroup
		recalls.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				_, err := from.Recall(context.Background(), cues[i%len(cues)])
				require.NoError(b, err)
			}
		})
		write(took)
		stop()
		recalls.Wait()
	}
	var alone, besideOthers, besideOwn []time.Duration
	for b.Loop() {
		write(&alone)
		writeBesideRecalls(elsewhere, &besideOthers)
		writeBesideRecalls(here, &besideOwn)
	}
	for _, took := range [][]time.Duration{alone, besideOthers, besideOwn} {
		slices.Sort(took)
	}
	for _, q := range []float64{.5, .99} {
		at := int(q * float64(len(alone)-1))
		b.ReportMetric(float64(besideOthers[at])/float64(alone[at]), fmt.Sprintf("p%g-elsewhere/alone", 100*q))
		b.ReportMetric(float64(besideOwn[at])/float64(besideOthers[at]), fmt.Sprintf("p%g-here/elsewhere", 100*q))
	}
}

// BenchmarkLookup reads memories by their ids, by turns with bare reads of as many
// bytes from as large a file, which are what it cannot be faster than.
func BenchmarkLookup(b *testing.B) {
	const memories, size, round = 10_000, 256, 1000
	s := benchSpace(b, newBenchMemory(0), memories)
	ids := make([]string, memories)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	file, err := os.Create(filepath.Join(b.TempDir(), "bare"))
	require.NoError(b, err)
	defer func() { require.NoError(b, file.Close()) }()
	_, err = file.Write(make([]byte, memories*size))
	require.NoError(b, err)
	var lookups, reads []float64
	took := func(each func(i int)) float64 {
		began := time.Now()
		for i := range round {
			each(i * 7919 % memories)
		}
		return float64(time.Since(began).Nanoseconds()) / round
	}
	record := make([]byte, size)
	for b.Loop() {
		lookups = append(lookups, took(func(i int) {
			_, err = s.Lookup(b.Context(), ids[i])
			require.NoError(b, err)
		}))
		reads = append(reads, took(func(i int) {
			_, err = file.ReadAt(record, int64(i*size))
			require.NoError(b, err)
		}))
	}
	slices.Sort(lookups)
	slices.Sort(reads)
	lookup, read := lookups[len(lookups)/2], reads[len(reads)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(lookup, "ns/lookup")
	b.ReportMetric(read, "ns/read")
	b.ReportMetric(lookup/read, "lookups/reads")
}

// BenchmarkRememberEmbeddings stores memories with embeddings of 768 dimensions in
// batches of 500, which one thread encodes and indexes.
func BenchmarkRememberEmbeddings(b *testing.B) {
	m := newBenchMemory(768)
	s := benchSpaces(b, openBench(b, Options{Durability: None}), 1)[0]
	batch := m.batch(0, 500)
	for b.Loop() {
		_, err := s.RememberBatch(b.Context(), batch)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "embeddings/s")
}
