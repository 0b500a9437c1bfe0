package simd

import (
	"fmt"
	"math/bits"
)

// ScanCodes sets dst[i] to the sum of those elements of a query at which row i
// of the codes has a bit. A row has so many words of 64 bits, and there are
// len(dst) rows, one after another. The elements of the query are numbers of two
// or of four bits, spread over as many planes as long as a row, one after
// another: bit k of an element is in plane k, at the element's place.
//
// So dst[i] is the sum over k of 2^k * popcount(plane k AND row i): 64 elements
// cost two or four ANDs and bit counts (Gao and Long, "RaBitQ", SIGMOD 2024,
// section 3.3.2). A row has at most 65,536 bits.
func (s Set) ScanCodes(dst []uint32, planes, codes []uint64, words int) {
	mustBePlanes(planes, words)
	mustBeLong("codes", len(codes), len(dst)*words)
	if len(dst) == 0 || words == 0 {
		clear(dst)
		return
	}
	for i := s.scanCodes(dst, planes, codes, words); i < len(dst); i++ {
		dst[i] = scanPortable(planes, codes[i*words:][:words])
	}
}

func mustBePlanes(planes []uint64, words int) {
	if words < 0 || words > maxDim/64 || len(planes) != 2*words && len(planes) != 4*words {
		panic(fmt.Sprintf("simd: planes of length %d for codes of %d words", len(planes), words))
	}
}

func scanPortable(planes, code []uint64) uint32 {
	words := len(code)
	sum := scanTwo(planes[:words], planes[words:][:words], code)
	if len(planes) > 2*words {
		sum += 4 * scanTwo(planes[2*words:][:words], planes[3*words:][:words], code)
	}
	return sum
}

func scanTwo(plane0, plane1, code []uint64) uint32 {
	plane0, plane1 = plane0[:len(code)], plane1[:len(code)]
	sum := 0
	for i, word := range code {
		sum += bits.OnesCount64(word&plane0[i]) + 2*bits.OnesCount64(word&plane1[i])
	}
	return uint32(sum)
}
