package main

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHashing(t *testing.T) {
	h := hashing{dimension: 512, term: 1, runs: 1}
	cosine := func(a, b string) float64 {
		sum := 0.0
		v, w := h.vector(a), h.vector(b)
		for i := range v {
			sum += float64(v[i]) * float64(w[i])
		}
		return sum
	}
	require.InDelta(t, 1, cosine("the sunrise", "sunrise"), 1e-6, "stop words do not count")
	require.Greater(t, cosine("a sunrise", "a sunrsie"), 0.3)
	require.Less(t, math.Abs(cosine("a sunrise", "my bottle")), 0.2)
	const long = "a sunrise over the hills behind the lake where we used to camp every other summer"
	once := h.vector(long)
	for range 20 {
		require.Equal(t, once, h.vector(long), "to the last bit")
	}
	for _, text := range []string{"", "?", "the", "sunrise"} {
		require.InDelta(t, 1, cosine(text, text), 1e-6, text)
	}
}

func TestRunsOf(t *testing.T) {
	require.Equal(t, []string{"<ab", "ab>", "<ab>"}, runsOf("<ab>"))
}
