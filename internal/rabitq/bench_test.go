package rabitq_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/engramdb/engram/internal/clouds"
	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

const (
	benchDim  = 768
	benchSeed = 7
)

// BenchmarkSearch is the candidates of 100,000 rows, or as many as ENGRAM_BENCH_ROWS
// says: scan, ranking by fine codes and, not in the time, by 30 vectors, for recall@10.
// BenchmarkExact is the scan of all vectors beside it.
func BenchmarkSearch(b *testing.B) {
	rows := benchRows(b)
	for _, cloud := range clouds.Of(benchDim, rand.New(rand.NewPCG(3, 3))) {
		vectors := drawVectors(cloud.Draw, rows, benchDim)
		queries := drawVectors(cloud.Draw, 100, benchDim)
		truths := make([][]rabitq.Candidate, 100)
		for i := range truths {
			truths[i] = nearest(vectors, queries[i*benchDim:][:benchDim], 10)
		}
		codes := encodeAll(rabitq.NewRotation(benchDim, benchSeed), vectors)
		for _, precision := range []rabitq.Precision{rabitq.TwoBits, rabitq.FourBits} {
			for _, depth := range []int{50, 100, 200, 400, 800, 1600} {
				b.Run(fmt.Sprintf("%s/bits=%d/depth=%d", cloud.Name, precision, depth), func(b *testing.B) {
					for _, set := range simd.Available() {
						b.Run(set.String(), func(b *testing.B) {
							benchmarkSearch(b, set, codes, vectors, queries, truths, precision, depth)
						})
					}
				})
			}
		}
	}
}

func benchmarkSearch(b *testing.B, set simd.Set, codes *rabitq.Codes, vectors, queries []float32, truths [][]rabitq.Candidate, precision rabitq.Precision, depth int) {
	var search rabitq.Search
	query := rabitq.NewQuery(rabitq.NewRotation(benchDim, benchSeed).WithSet(set), precision)
	found := make([]rabitq.Candidate, 0, 30)
	sum := 0.0
	for i, truth := range truths {
		q := queries[i*benchDim:][:benchDim]
		query.Set(q)
		found = search.All(found[:0], []rabitq.Part{rabitq.WholePart(codes, nil)}, query, depth, 30)
		sum += recall(truth, ranked(found, vectors, q, 10))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		query.Set(queries[i%100*benchDim:][:benchDim])
		found = search.All(found[:0], []rabitq.Part{rabitq.WholePart(codes, nil)}, query, depth, 30)
	}
	b.ReportMetric(sum/float64(len(truths)), "recall@10")
}

func benchRows(b *testing.B) int {
	b.Helper()
	set := os.Getenv("ENGRAM_BENCH_ROWS")
	if set == "" {
		return 100_000
	}
	rows, err := strconv.Atoi(set)
	require.NoError(b, err)
	return rows
}

func BenchmarkExact(b *testing.B) {
	source := rand.New(rand.NewPCG(3, 4))
	vectors := drawVectors(clouds.Of(benchDim, source)[0].Draw, benchRows(b), benchDim)
	for b.Loop() {
		nearest(vectors, vectors[:benchDim], 10)
	}
}

func BenchmarkEncode(b *testing.B) {
	v := make([]float32, benchDim)
	clouds.Of(benchDim, rand.New(rand.NewPCG(3, 5)))[0].Draw(v)
	for _, set := range simd.Available() {
		b.Run(set.String(), func(b *testing.B) {
			codes, encoder := new(rabitq.Codes), rabitq.NewEncoder(rabitq.NewRotation(benchDim, benchSeed).WithSet(set))
			encoder.Append(codes, v)
			b.ReportAllocs()
			for b.Loop() {
				encoder.Replace(codes, 0, v)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "vectors/s")
		})
	}
}

func BenchmarkQuery(b *testing.B) {
	v := make([]float32, benchDim)
	clouds.Of(benchDim, rand.New(rand.NewPCG(3, 5)))[0].Draw(v)
	for _, set := range simd.Available() {
		b.Run(set.String(), func(b *testing.B) {
			query := rabitq.NewQuery(rabitq.NewRotation(benchDim, benchSeed).WithSet(set), rabitq.TwoBits)
			b.ReportAllocs()
			for b.Loop() {
				query.Set(v)
			}
		})
	}
}
