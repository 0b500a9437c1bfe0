package rabitq_test

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/engramdb/engram/internal/rabitq"
	"github.com/engramdb/engram/internal/simd"
)

// cloud draws vectors of length 1 from a distribution.
type cloud struct {
	name string
	draw func(v []float32)
}

// Gaussian is the hardest there is: nothing is near to anything. The clusters
// are a hundred, so that the neighbours of a vector are a thousandth of what is
// almost as near. The subspace is what embeddings look like: a hundred
// dimensions of 768 that matter, and noise in all of them. In the spectrum these
// matter less and less: the variance of the i-th is 1/i.
func clouds(dim int, source *rand.Rand) []cloud {
	gaussian := func(v []float32) {
		for i := range v {
			v[i] = float32(source.NormFloat64())
		}
		normalise(v)
	}
	centres, axes := make([][]float32, 100), make([][]float32, 100)
	for i := range centres {
		centres[i], axes[i] = make([]float32, dim), make([]float32, dim)
		gaussian(centres[i])
		gaussian(axes[i])
	}
	clustered := func(v []float32) {
		gaussian(v)
		add(v, centres[source.IntN(len(centres))], 1)
		normalise(v)
	}
	spread := func(v []float32, deviation func(axis int) float64) {
		clear(v)
		for i, axis := range axes {
			add(v, axis, float32(source.NormFloat64()*deviation(i)))
		}
		normalise(v)
		noise := make([]float32, dim)
		gaussian(noise)
		add(v, noise, 0.3)
		normalise(v)
	}
	subspace := func(v []float32) {
		spread(v, func(int) float64 { return 1 })
	}
	spectrum := func(v []float32) {
		spread(v, func(axis int) float64 { return 1 / math.Sqrt(float64(axis+1)) })
	}
	return []cloud{{"gaussian", gaussian}, {"clusters", clustered}, {"subspace", subspace}, {"spectrum", spectrum}}
}

func add(v, w []float32, factor float32) {
	for i := range v {
		v[i] += factor * w[i]
	}
}

func normalise(v []float32) {
	scale := float32(1 / math.Sqrt(float64(simd.Best().Dot(v, v))))
	for i := range v {
		v[i] *= scale
	}
}

func drawVectors(draw func([]float32), count, dim int) []float32 {
	vectors := make([]float32, count*dim)
	for i := range count {
		draw(vectors[i*dim:][:dim])
	}
	return vectors
}

func encodeAll(rotation *rabitq.Rotation, vectors []float32) *rabitq.Codes {
	codes, encoder := new(rabitq.Codes), rabitq.NewEncoder(rotation)
	for v := range slices.Chunk(vectors, rotation.Dim()) {
		encoder.Append(codes, v)
	}
	return codes
}

// nearest returns the rows of the highest dot products with q, by comparing all.
func nearest(vectors, q []float32, limit int) []rabitq.Candidate {
	products, rows := make([]float32, len(vectors)/len(q)), make([]uint32, len(vectors)/len(q))
	simd.Best().DotRows(products, q, vectors)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rabitq.Best(products, rows, limit)
}

// ranked returns the limit best of the candidates by the vectors themselves.
func ranked(candidates []rabitq.Candidate, vectors, q []float32, limit int) []rabitq.Candidate {
	var products []float32
	var rows []uint32
	for _, candidate := range candidates {
		products = append(products, simd.Best().Dot(q, vectors[int(candidate.Row)*len(q):][:len(q)]))
		rows = append(rows, candidate.Row)
	}
	return rabitq.Best(products, rows, limit)
}

// recall is the share of the truth that was found.
func recall(truth, found []rabitq.Candidate) float64 {
	rows := make(map[uint32]bool)
	for _, candidate := range found {
		rows[candidate.Row] = true
	}
	hits := 0
	for _, candidate := range truth {
		if rows[candidate.Row] {
			hits++
		}
	}
	return float64(hits) / float64(len(truth))
}
