// Package clouds draws vectors from distributions that tell searches apart, for tests
// and benchmarks.
package clouds

import (
	"math"
	"math/rand/v2"

	"github.com/engramdb/engram/internal/simd"
)

// Cloud draws vectors of length 1 from a distribution.
type Cloud struct {
	Name string
	Draw func(v []float32) // fills v
}

// Of returns the clouds of a dimension, which draw from the source.
//
// Gaussian is the hardest there is: nothing is near to anything. The clusters are a
// hundred, so that the neighbours of a vector are a thousandth of what is almost as
// near. The subspace is what embeddings look like: a hundred dimensions of 768 that
// matter, and noise in all of them. In the spectrum these matter less and less: the
// variance of the i-th is 1/i.
func Of(dim int, source *rand.Rand) []Cloud {
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
	return []Cloud{{"gaussian", gaussian}, {"clusters", clustered}, {"subspace", subspace}, {"spectrum", spectrum}}
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
