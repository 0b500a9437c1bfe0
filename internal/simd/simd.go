// Package simd is the arithmetic of vector search over plain slices: dot
// products of floats and of small integers, the weighted bit counts of a scan
// over binary codes, the score of their rows, and the Walsh-Hadamard transform.
// It allocates nothing and knows nothing of what the numbers mean.
//
// Each operation has one definition, its portable Go, and on some machines a
// kernel in assembly; a [Set] chooses. All of them give the same answer to the
// last bit, because an answer must not depend on the machine it was computed on:
//
//   - integers are exact;
//   - floats are added in one order, whatever the width of the registers (see
//     [Set.Dot]), and no product is fused with the sum it goes into. The
//     portable code says float32(x*y) + z, which forbids the compiler to fuse.
//
// What is not promised to be equal is the payload and the sign of a NaN.
package simd

import (
	"slices"
	"strconv"
)

// Set is an instruction set with kernels of its own. The zero value is code in
// plain Go, which every machine runs.
type Set uint8

// The sets, in order of preference from low to high.
const (
	Portable Set = iota
	NEON         // arm64
	AVX2         // amd64
	AVX512       // amd64; with the extensions BW, DQ, VL, VNNI and BITALG
)

// available is what this machine can run, asked once.
var available = append([]Set{Portable}, detect()...)

// Best returns the fastest set of this machine.
func Best() Set { return available[len(available)-1] }

// Available returns all sets of this machine, the portable one first. The
// methods of any other set end in an illegal instruction.
func Available() []Set { return slices.Clone(available) }

// String returns the set's name.
func (s Set) String() string {
	switch s {
	case Portable:
		return "portable"
	case NEON:
		return "NEON"
	case AVX2:
		return "AVX2"
	case AVX512:
		return "AVX-512"
	}
	return "Set(" + strconv.Itoa(int(s)) + ")"
}

// mustBeLong panics unless a slice has the length that the others ask of it: a
// kernel knows no bounds.
func mustBeLong(name string, length, want int) {
	if length != want {
		panic("simd: " + name + " of length " + strconv.Itoa(length) + " where " + strconv.Itoa(want) + " is meant")
	}
}

// mustBeRows panics unless each of the indices names one of count rows: a kernel
// reads where they point.
func mustBeRows(indices []uint32, count int) {
	highest := -1
	for _, index := range indices {
		highest = max(highest, int(index))
	}
	if highest >= count {
		panic("simd: row " + strconv.Itoa(highest) + " of " + strconv.Itoa(count))
	}
}
