package peers

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram"
)

var background = context.Background()

// sizes are how many memories the engines hold: the large ones take minutes to
// fill and are for ENGRAM_PEERS=full.
func sizes() []int {
	if os.Getenv("ENGRAM_PEERS") == "full" {
		return []int{1_000, 10_000, 100_000}
	}
	return []int{1_000, 10_000}
}

// engine answers the i-th question of a benchmark.
type engine struct {
	name string
	ask  func(i int)
}

// compare asks every engine the same questions, in turn, and reports the median
// time of each for one question, and how many times ours the others' is.
func compare(b *testing.B, questions int, ours engine, peers ...engine) {
	b.Helper()
	all := append([]engine{ours}, peers...)
	rounds := make([][]float64, len(all))
	for b.Loop() {
		for i, e := range all {
			began := time.Now()
			for q := range questions {
				e.ask(q)
			}
			rounds[i] = append(rounds[i], float64(time.Since(began).Microseconds())/float64(questions))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rounds[0]), "us/"+ours.name)
	for i, e := range peers {
		b.ReportMetric(median(rounds[i+1]), "us/"+e.name)
		ratios := make([]float64, len(rounds[0]))
		for r := range ratios {
			ratios[r] = rounds[i+1][r] / rounds[0][r]
		}
		b.ReportMetric(median(ratios), "x-"+e.name)
	}
}

func median[T cmp.Ordered](list []T) T {
	list = slices.Sorted(slices.Values(list))
	return list[len(list)/2]
}

// texts are of 20 words each, from a vocabulary with the skew of a language, and
// the cues of three.
func texts(seed uint64, n, words int) []string {
	source := rand.New(rand.NewPCG(seed, 1))
	zipf := rand.NewZipf(source, 1.07, 40, 29_999)
	list := make([]string, n)
	for i := range list {
		var text []byte
		for range words {
			word := zipf.Uint64()
			text = fmt.Appendf(text, "%c%cx%d ", 'a'+rune(word%26), 'a'+rune(word/26%26), word)
		}
		list[i] = string(text)
	}
	return list
}

// vectors are of unit length, around a center for every hundred of them, as
// embeddings of texts on common topics are.
func vectors(seed uint64, n, dimension int) [][]float32 {
	random := rand.New(rand.NewPCG(seed, 2))
	centers := rand.New(rand.NewPCG(7, 3))
	topics := make([][]float32, 200)
	for i := range topics {
		topics[i] = unit(centers, make([]float32, dimension), nil)
	}
	list := make([][]float32, n)
	for i := range list {
		list[i] = unit(random, make([]float32, dimension), topics[random.IntN(len(topics))])
	}
	return list
}

func unit(random *rand.Rand, v, center []float32) []float32 {
	sum := 0.0
	for i := range v {
		v[i] = float32(random.NormFloat64())
		if center != nil {
			v[i] += center[i] * float32(math.Sqrt(float64(len(v))))
		}
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// openSpace returns a space that holds the memories, with its indexes on disk, until
// the benchmark ends.
func openSpace(b *testing.B, memories []engram.Memory) *engram.Space {
	b.Helper()
	r, s := fillSpace(b, memories)
	stay(b, r)
	require.NoError(b, s.Checkpoint(background))
	return s
}

// fillSpace returns a registry with a space that holds the memories.
func fillSpace(b *testing.B, memories []engram.Memory) (*engram.Registry, *engram.Space) {
	b.Helper()
	r, err := engram.Open(b.TempDir(), engram.Options{})
	require.NoError(b, err)
	s, err := r.Create(background, "peers", engram.SpaceConfig{})
	require.NoError(b, err)
	for batch := range slices.Chunk(memories, 512) {
		_, err := s.RememberBatch(background, batch)
		require.NoError(b, err)
	}
	return r, s
}

// stay has what was opened stay so until the benchmark ends, and returns it.
func stay[C io.Closer](b *testing.B, opened C) C {
	b.Helper()
	b.Cleanup(func() { require.NoError(b, opened.Close()) })
	return opened
}
