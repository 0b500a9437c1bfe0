package main

import (
	"hash/fnv"
	"maps"
	"math"
	"slices"

	"github.com/engramdb/engram/benchmarks/quality/oracle"
)

// hashing makes vectors of texts with no model: each word's term and each run of
// letters in it is hashed to one of the dimensions and to a sign (feature hashing:
// Weinberger et al. 2009; runs of letters: Bojanowski et al. 2017). So it is
// lexical: what it finds beyond the words are words that are spelt alike.
type hashing struct {
	dimension int
	term      float64 // weight of a word's term
	runs      float64 // of all of its runs of letters together
}

// The lengths of runs, with the marks of where the word begins and ends.
const (
	shortestRun = 3
	longestRun  = 4
)

// vector returns the text's vector, of length one. A text without words has a
// vector too, which is near to none.
func (h hashing) vector(text string) []float32 {
	weights := map[string]float64{}
	for _, word := range oracle.Words(text) {
		weights["="+oracle.Term(word)] += h.term
		runs := runsOf("<" + word + ">")
		for _, run := range runs {
			weights[run] += h.runs / math.Sqrt(float64(len(runs)))
		}
	}
	sums := make([]float64, h.dimension)
	// In one order: sums made in another differ in their last bits.
	for _, feature := range slices.Sorted(maps.Keys(weights)) {
		hash := fnv.New64a()
		hash.Write([]byte(feature))
		sum := hash.Sum64()
		// Once more is worth less than once. The lowest bit is the sign.
		value := math.Sqrt(weights[feature])
		if sum&1 == 1 {
			value = -value
		}
		sums[sum>>1%uint64(h.dimension)] += value
	}
	length := 0.0
	for _, value := range sums {
		length += value * value
	}
	if length == 0 {
		sums[0], length = 1, 1
	}
	vector := make([]float32, h.dimension)
	for i, value := range sums {
		vector[i] = float32(value / math.Sqrt(length))
	}
	return vector
}

func runsOf(word string) []string {
	letters := []rune(word)
	var runs []string
	for n := shortestRun; n <= longestRun; n++ {
		for from := 0; from+n <= len(letters); from++ {
			runs = append(runs, string(letters[from:from+n]))
		}
	}
	return runs
}
