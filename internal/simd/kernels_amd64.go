package simd

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

func detect() []Set {
	var sets []Set
	if cpu.X86.HasAVX2 {
		sets = append(sets, AVX2)
	}
	x := &cpu.X86
	if x.HasAVX2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VNNI && x.HasAVX512BITALG {
		sets = append(sets, AVX512)
	}
	return sets
}

// The kernels: each does what it can of the front of its rows and returns their
// number. The integer ones take four rows at a time, so that what they load of
// the query serves four; rows is where the indices of the rows are, or nil for
// the rows in order.

const rowsAtOnce = 4

func (s Set) dotRows(dst, q, rows []float32) int {
	switch s {
	case AVX512:
		dotRowsAVX512(&dst[0], &q[0], &rows[0], len(dst), len(q))
	case AVX2:
		dotRowsAVX2(&dst[0], &q[0], &rows[0], len(dst), len(q))
	default:
		return 0
	}
	return len(dst)
}

func (s Set) scanCodes(dst []uint32, planes, codes []uint64, words int) int {
	blocks, two := len(dst)/rowsAtOnce, len(planes) == 2*words
	if blocks == 0 {
		return 0
	}
	switch {
	case s == AVX512 && two:
		scanTwoAVX512(&dst[0], &planes[0], &codes[0], blocks, words)
	case s == AVX512:
		scanFourAVX512(&dst[0], &planes[0], &codes[0], blocks, words)
	case s == AVX2 && two:
		scanTwoAVX2(&dst[0], &planes[0], &codes[0], blocks, words)
	case s == AVX2:
		scanFourAVX2(&dst[0], &planes[0], &codes[0], blocks, words)
	default:
		return 0
	}
	return blocks * rowsAtOnce
}

func (s Set) dotInt4(dst []int32, q []int8, codes []uint8, rows []uint32) int {
	if s < AVX2 || len(dst) == 0 {
		return 0
	}
	done := len(dst) &^ (rowsAtOnce - 1)
	s.dotInt4Blocks(dst[:done], q, codes, rows)
	if done == len(dst) {
		return done
	}
	// The last rows, and the very last again: far cheaper than without a kernel.
	var last [rowsAtOnce]uint32
	for i := range last {
		at := min(done+i, len(dst)-1)
		last[i] = uint32(at)
		if rows != nil {
			last[i] = rows[at]
		}
	}
	var products [rowsAtOnce]int32
	s.dotInt4Blocks(products[:], q, codes, last[:])
	copy(dst[done:], products[:])
	return len(dst)
}

func (s Set) dotInt4Blocks(dst []int32, q []int8, codes []uint8, rows []uint32) {
	blocks := len(dst) / rowsAtOnce
	switch {
	case blocks == 0:
	case s == AVX512:
		dotInt4AVX512(&dst[0], &q[0], &codes[0], first(rows), blocks, len(q))
	default:
		dotInt4AVX2(&dst[0], &q[0], &codes[0], first(rows), blocks, len(q))
	}
}

func (s Set) score(scores []float32, reached []uint64, counts []uint32, offsets, factors []float32, line *Line, floor float32) int {
	blocks := len(scores) / 16
	if s < AVX2 || blocks == 0 {
		return 0
	}
	scoreAVX2(&scores[0], &reached[0], &counts[0], &offsets[0], &factors[0], line, floor, blocks)
	return blocks * 16
}

func (s Set) hadamard(x []float32, scale float32) bool {
	if s < AVX2 || len(x) < 8 {
		return false
	}
	hadamardAVX2(&x[0], len(x), scale)
	return true
}

// first returns where a list starts, nil for none.
func first(list []uint32) *uint32 {
	if len(list) == 0 {
		return nil
	}
	return &list[0]
}

//go:noescape
func prefetch(p unsafe.Pointer, bytes int)

//go:noescape
func dotRowsAVX2(dst, q, rows *float32, count, dim int)

//go:noescape
func dotRowsAVX512(dst, q, rows *float32, count, dim int)

//go:noescape
func scanTwoAVX2(dst *uint32, planes, codes *uint64, blocks, words int)

//go:noescape
func scanTwoAVX512(dst *uint32, planes, codes *uint64, blocks, words int)

//go:noescape
func scanFourAVX2(dst *uint32, planes, codes *uint64, blocks, words int)

//go:noescape
func scanFourAVX512(dst *uint32, planes, codes *uint64, blocks, words int)

//go:noescape
func dotInt4AVX2(dst *int32, q *int8, codes *uint8, rows *uint32, blocks, dim int)

//go:noescape
func dotInt4AVX512(dst *int32, q *int8, codes *uint8, rows *uint32, blocks, dim int)

// scoreAVX2 takes 16 rows in a block. Both sets use it: it is no hot loop.
//
//go:noescape
func scoreAVX2(scores *float32, reached *uint64, counts *uint32, offsets, factors *float32, line *Line, floor float32, blocks int)

// hadamardAVX2 takes a power of two that is at least 8. Both sets use it.
//
//go:noescape
func hadamardAVX2(x *float32, dim int, scale float32)
