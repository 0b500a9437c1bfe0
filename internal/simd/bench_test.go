package simd_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/engramdb/engram/internal/simd"
)

// The benchmarks say how many rows a second a set takes, and as MB/s how fast it
// goes through what it must read of them. BenchmarkMemory is the limit of that:
// nothing but reading, of what is in no near cache.

const (
	benchDim  = 768
	benchRows = 100_000
)

func benchmarkSets(b *testing.B, rows, bytesPerRow int, run func(set simd.Set)) {
	for _, set := range simd.Available() {
		b.Run(set.String(), func(b *testing.B) {
			b.SetBytes(int64(rows * bytesPerRow))
			for b.Loop() {
				run(set)
			}
			b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mrows/s")
		})
	}
}

func benchSource() *rand.Rand { return rand.New(rand.NewPCG(2, 2)) }

func BenchmarkMemory(b *testing.B) {
	words := make([]uint64, benchRows*benchDim/2)
	fillWords(words, benchSource())
	b.SetBytes(int64(8 * len(words)))
	var all uint64
	for b.Loop() {
		for i := 0; i+8 <= len(words); i += 8 { // a cache line
			all |= words[i]
		}
	}
	_ = all
}

func BenchmarkDotRows(b *testing.B) {
	q, rows := make([]float32, benchDim), make([]float32, benchRows*benchDim)
	fillFloats(q, benchSource())
	fillFloats(rows, benchSource())
	products := make([]float32, benchRows)
	benchmarkSets(b, benchRows, 4*benchDim, func(set simd.Set) { set.DotRows(products, q, rows) })
}

func BenchmarkDotRowsNear(b *testing.B) {
	const near = 100 // rows, which stay in the second cache
	q, rows := make([]float32, benchDim), make([]float32, near*benchDim)
	fillFloats(q, benchSource())
	fillFloats(rows, benchSource())
	products := make([]float32, near)
	benchmarkSets(b, near, 4*benchDim, func(set simd.Set) { set.DotRows(products, q, rows) })
}

func BenchmarkDot(b *testing.B) {
	x, y := make([]float32, benchDim), make([]float32, benchDim)
	fillFloats(x, benchSource())
	fillFloats(y, benchSource())
	benchmarkSets(b, 1, 4*benchDim, func(set simd.Set) { set.Dot(x, y) })
}

func BenchmarkScanCodes(b *testing.B) {
	const words = benchDim / 64
	for _, rows := range []int{1000, 10 * benchRows} { // in a near cache, and in none
		codes, counts := make([]uint64, rows*words), make([]uint32, rows)
		fillWords(codes, benchSource())
		for _, planes := range []int{2, 4} {
			b.Run(fmt.Sprintf("rows=%d/planes=%d", rows, planes), func(b *testing.B) {
				query := make([]uint64, planes*words)
				fillWords(query, benchSource())
				benchmarkSets(b, rows, 8*words, func(set simd.Set) { set.ScanCodes(counts, query, codes, words) })
			})
		}
	}
}

// candidates are the rows of a re-ranking: few, far apart, in ascending order.
func candidates() []uint32 {
	rows := make([]uint32, 400)
	for i := range rows {
		rows[i] = uint32(i * (benchRows / len(rows)))
	}
	return rows
}

func BenchmarkDotInt4At(b *testing.B) {
	q, codes, rows := make([]int8, benchDim), make([]uint8, benchRows*benchDim/2), candidates()
	fillInt8(q, benchSource())
	fillBytes(codes, benchSource())
	products := make([]int32, len(rows))
	benchmarkSets(b, len(rows), benchDim/2, func(set simd.Set) { set.DotInt4At(products, q, codes, rows) })
}

func BenchmarkScore(b *testing.B) {
	counts, offsets, factors := make([]uint32, benchRows), make([]float32, benchRows), make([]float32, benchRows)
	scores, reached := make([]float32, benchRows), make([]uint64, (benchRows+63)/64)
	benchmarkSets(b, benchRows, 12, func(set simd.Set) {
		set.Score(scores, reached, counts, offsets, factors, simd.Line{A: 1}, 1)
	})
}

func BenchmarkHadamard(b *testing.B) {
	x := make([]float32, 512)
	fillFloats(x, benchSource())
	benchmarkSets(b, 1, 4*len(x), func(set simd.Set) { set.Hadamard(x) })
}
