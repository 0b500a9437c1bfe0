package simd

import (
	"math"
	"unsafe"
)

// detect: every arm64 has NEON.
func detect() []Set { return []Set{NEON} }

// The kernels: each does what it can of the front of its rows and returns their
// number. Go's assembler has no NEON instruction for a product of integers, so
// those are portable.

func (s Set) dotRows(dst, q, rows []float32) int {
	if s != NEON || len(q) < lanes {
		return 0
	}
	whole := len(q) &^ (lanes - 1)
	for i := range dst {
		row := rows[i*len(q):][:len(q)]
		var sums [lanes]float32
		dotNEON(&sums, &q[0], &row[0], whole/lanes)
		for j := whole; j < len(q); j++ {
			sums[j-whole] += float32(q[j] * row[j])
		}
		dst[i] = sumLanes(&sums)
	}
	return len(dst)
}

func (s Set) scanCodes(dst []uint32, planes, codes []uint64, words int) int {
	if s != NEON || words%2 != 0 || words > maxScanWords {
		return 0
	}
	for i := range dst {
		dst[i] = scanNEON(&planes[0], &codes[i*words], words, len(planes)/words)
	}
	return len(dst)
}

func (Set) dotInt4(_ []int32, _ []int8, _ []uint8, _ []uint32) int { return 0 }

func (Set) score(_ []float32, _ []uint64, _ []uint32, _, _ []float32, _ *Line, _ float32) int {
	return 0
}

func (Set) hadamard(_ []float32, _ float32) bool { return false }

func prefetch(unsafe.Pointer, int) {}

// dotNEON sums the products of blocks*32 elements in 32 lanes.
//
//go:noescape
func dotNEON(sums *[lanes]float32, a, b *float32, blocks int)

// maxScanWords is what the sums of 16 bits of scanNEON hold: two words add up to
// 240 to each.
const maxScanWords = 2 * (math.MaxUint16 / 240)

// scanNEON is scanPortable for an even number of words up to maxScanWords, and
// count planes.
//
//go:noescape
func scanNEON(planes, code *uint64, words, count int) uint32
