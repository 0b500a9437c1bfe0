package simd

import "fmt"

// maxDim bounds the vectors of the integer kernels, so that no sum leaves 32
// bits: 15 * 128 * 65,536 is below 2^31.
const maxDim = 1 << 16

// int4Group is the multiple that the length of a query to [Set.DotInt4] must be.
const int4Group = 64

// DotInt4 sets dst[i] to the exact dot product of q and row i of the codes: the
// rows are len(dst) vectors as long as q, of elements from 0 to 15, two in a
// byte. Element 2j is the lower half of byte j. The length of q is a multiple of
// 64 and at most 65,536.
func (s Set) DotInt4(dst []int32, q []int8, codes []uint8) {
	size := int4RowBytes(len(q))
	mustBeLong("codes", len(codes), len(dst)*size)
	if len(dst) == 0 || size == 0 {
		clear(dst)
		return
	}
	for i := s.dotInt4(dst, q, codes, nil); i < len(dst); i++ {
		dst[i] = dotInt4Portable(q, codes[i*size:][:size])
	}
}

// DotInt4At is [Set.DotInt4] over the rows that are listed: dst[i] is about row
// rows[i].
func (s Set) DotInt4At(dst []int32, q []int8, codes []uint8, rows []uint32) {
	size := int4RowBytes(len(q))
	mustBeLong("dst", len(dst), len(rows))
	if len(rows) == 0 || size == 0 {
		clear(dst)
		return
	}
	mustBeRows(rows, len(codes)/size)
	for i := s.dotInt4(dst, q, codes, rows); i < len(rows); i++ {
		dst[i] = dotInt4Portable(q, codes[int(rows[i])*size:][:size])
	}
}

func int4RowBytes(dim int) int {
	if dim > maxDim {
		panic(fmt.Sprintf("simd: a query of %d elements, of %d at most", dim, maxDim))
	}
	if dim%int4Group != 0 {
		panic(fmt.Sprintf("simd: a query of %d elements, not a multiple of %d", dim, int4Group))
	}
	return dim / 2
}

func dotInt4Portable(q []int8, code []uint8) int32 {
	var s0, s1, s2, s3 int32
	for i := 0; i+2 <= len(code); i += 2 {
		x, y := (*[4]int8)(q[2*i:]), (*[2]uint8)(code[i:])
		s0 += int32(x[0]) * int32(y[0]&15)
		s1 += int32(x[1]) * int32(y[0]>>4)
		s2 += int32(x[2]) * int32(y[1]&15)
		s3 += int32(x[3]) * int32(y[1]>>4)
	}
	return s0 + s1 + s2 + s3
}
