package rabitq_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

// leaves are vectors divided into groups by direction, so that a search can
// leave out those that are far from the query.
type leaves struct {
	dim       int
	centroids []float32      // one a leaf, of length 1
	rows      [][]uint32     // of each leaf
	codes     []rabitq.Codes // of each leaf
}

// growLeaves divides the vectors by k-means of every tenth of them, by cosine and
// in floats: what codes would make of it cannot be better.
func growLeaves(rotation *rabitq.Rotation, vectors []float32, count int) *leaves {
	dim := rotation.Dim()
	l := &leaves{dim: dim, rows: make([][]uint32, count), codes: make([]rabitq.Codes, count)}
	var sample []float32
	for i := 0; i < len(vectors); i += 10 * dim {
		sample = append(sample, vectors[i:][:dim]...)
	}
	for i := range count {
		l.centroids = append(l.centroids, sample[i*dim:][:dim]...)
	}
	for range 6 {
		nearest, sizes := l.nearest(sample), make([]int, count)
		sums := make([]float32, len(l.centroids))
		for i, leaf := range nearest {
			add(sums[leaf*dim:][:dim], sample[i*dim:][:dim], 1)
			sizes[leaf]++
		}
		for leaf, size := range sizes {
			if size > 0 {
				normalise(sums[leaf*dim:][:dim])
				copy(l.centroids[leaf*dim:][:dim], sums[leaf*dim:])
			}
		}
	}
	encoder := rabitq.NewEncoder(rotation)
	for i, leaf := range l.nearest(vectors) {
		l.rows[leaf] = append(l.rows[leaf], uint32(i))
		encoder.Append(&l.codes[leaf], vectors[i*dim:][:dim])
	}
	return l
}

// nearest returns the leaf of each vector.
func (l *leaves) nearest(vectors []float32) (leafOf []int) {
	const near = 64 // vectors, which stay in the second cache
	for block := range slices.Chunk(vectors, near*l.dim) {
		count := len(block) / l.dim
		leafOf = append(leafOf, make([]int, count)...)
		mine, best, products := leafOf[len(leafOf)-count:], make([]float32, count), make([]float32, count)
		for leaf := range l.rows {
			simd.Best().DotRows(products, l.centroids[leaf*l.dim:][:l.dim], block)
			for i, product := range products {
				if leaf == 0 || product > best[i] {
					mine[i], best[i] = leaf, product
				}
			}
		}
	}
	return leafOf
}

// probe returns the leaves nearest to q that have so many rows together, and
// their codes.
func (l *leaves) probe(q []float32, want int) (probed []int, parts []rabitq.Part) {
	products := make([]float32, len(l.rows))
	simd.Best().DotRows(products, q, l.centroids)
	order := make([]int, len(l.rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(products[b], products[a]) })
	for _, leaf := range order {
		if want <= 0 {
			break
		}
		probed, parts = append(probed, leaf), append(parts, rabitq.Part{Codes: &l.codes[leaf]})
		want -= len(l.rows[leaf])
	}
	return probed, parts
}

// restore gives candidates the numbers of their vectors.
func (l *leaves) restore(candidates []rabitq.Candidate, probed []int) {
	for i := range candidates {
		row, at := int(candidates[i].Row), 0
		for ; row >= len(l.rows[probed[at]]); at++ {
			row -= len(l.rows[probed[at]])
		}
		candidates[i].Row = l.rows[probed[at]][row]
	}
}

// BenchmarkLeaves is BenchmarkSearch where only the leaves nearest to the query
// are scanned, up to a share of the rows. Each search takes turns with one of all
// rows; x-flat is how often the fastest of the one goes into the fastest of all.
func BenchmarkLeaves(b *testing.B) {
	const queryCount = 100
	for _, cloud := range clouds(benchDim, rand.New(rand.NewPCG(3, 3))) {
		b.Run(cloud.name, func(b *testing.B) {
			vectors := drawVectors(cloud.draw, benchRows, benchDim)
			queries := slices.Collect(slices.Chunk(drawVectors(cloud.draw, queryCount, benchDim), benchDim))
			var truths [][]rabitq.Candidate
			for _, q := range queries {
				truths = append(truths, nearest(vectors, q, 10))
			}
			rotation := rabitq.NewRotation(benchDim, benchSeed)
			l := growLeaves(rotation, vectors, int(math.Sqrt(benchRows)))
			all := []rabitq.Part{{Codes: encodeAll(rotation, vectors)}}

			var search rabitq.Search
			var found []rabitq.Candidate
			query := rabitq.NewQuery(rotation, rabitq.TwoBits)
			flat := func(q []float32) []rabitq.Candidate {
				query.Set(q)
				found = search.All(found[:0], all, query, 800, 32)
				return found
			}
			b.Run("flat", func(b *testing.B) { benchmarkTurns(b, flat, flat, vectors, queries, truths) })
			for _, share := range []float64{1. / 64, 1. / 32, 1. / 16, 1. / 8, 1. / 4, 1. / 2} {
				probe := func(q []float32) []rabitq.Candidate {
					query.Set(q)
					probed, parts := l.probe(q, int(share*benchRows))
					found = search.All(found[:0], parts, query, 800, 32)
					l.restore(found, probed)
					return found
				}
				b.Run(fmt.Sprintf("share=%.3f", share), func(b *testing.B) { benchmarkTurns(b, probe, flat, vectors, queries, truths) })
			}
		})
	}
}

func benchmarkTurns(b *testing.B, search, flat func(q []float32) []rabitq.Candidate, vectors []float32, queries [][]float32, truths [][]rabitq.Candidate) {
	sum := 0.0
	for i, q := range queries {
		sum += recall(truths[i], ranked(search(q), vectors, q, 10))
	}
	fastest, flatFastest := time.Hour, time.Hour
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		search(queries[i%len(queries)])
		middle := time.Now()
		flat(queries[i%len(queries)])
		fastest, flatFastest = min(fastest, middle.Sub(start)), min(flatFastest, time.Since(middle))
	}
	b.ReportMetric(float64(fastest), "ns/op")
	b.ReportMetric(float64(flatFastest)/float64(fastest), "x-flat")
	b.ReportMetric(sum/float64(len(queries)), "recall@10")
}
