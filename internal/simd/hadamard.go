package simd

import "math"

// Hadamard multiplies x by the Walsh-Hadamard matrix of its length, a power of
// two, divided by the root of the length. The matrix is then orthogonal and its
// own inverse.
//
// One stage for each power of two h below the length replaces the elements a
// and b that are h apart by a+b and a-b; the smallest h comes first and the
// division last, so every result is a fixed tree of sums.
func (s Set) Hadamard(x []float32) {
	if len(x)&(len(x)-1) != 0 {
		panic("simd: the length of a Hadamard transform is not a power of two")
	}
	if len(x) < 2 {
		return
	}
	scale := float32(1 / math.Sqrt(float64(len(x))))
	if !s.hadamard(x, scale) {
		hadamardPortable(x, scale)
	}
}

func hadamardPortable(x []float32, scale float32) {
	half := 1
	if len(x) >= 8 {
		for i := 0; i+8 <= len(x); i += 8 {
			hadamardEight((*[8]float32)(x[i:]))
		}
		half = 8
	}
	for ; half < len(x); half *= 2 {
		for i := 0; i < len(x); i += 2 * half {
			butterfly(x[i:i+half], x[i+half:i+2*half])
		}
	}
	for i := range x {
		x[i] *= scale
	}
}

func butterfly(x, y []float32) {
	y = y[:len(x)]
	for i, a := range x {
		b := y[i]
		x[i], y[i] = a+b, a-b
	}
}

// hadamardEight is the first three stages, in registers.
func hadamardEight(x *[8]float32) {
	a0, a1, a2, a3 := x[0]+x[1], x[0]-x[1], x[2]+x[3], x[2]-x[3]
	a4, a5, a6, a7 := x[4]+x[5], x[4]-x[5], x[6]+x[7], x[6]-x[7]
	b0, b1, b2, b3 := a0+a2, a1+a3, a0-a2, a1-a3
	b4, b5, b6, b7 := a4+a6, a5+a7, a4-a6, a5-a7
	x[0], x[1], x[2], x[3] = b0+b4, b1+b5, b2+b6, b3+b7
	x[4], x[5], x[6], x[7] = b0-b4, b1-b5, b2-b6, b3-b7
}
