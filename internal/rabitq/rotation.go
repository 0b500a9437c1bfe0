// Package rabitq finds the vectors nearest to a query, by angle, from codes of
// one and of four bits for each dimension.
//
// A vector is rotated at random, so that whatever it looked like its elements
// are spread like those of a random vector. Then the signs of the elements, one
// bit each, tell the angle to any other vector with an error that falls with the
// root of the dimension: that is RaBitQ (Jianyang Gao and Cheng Long, "RaBitQ:
// Quantizing High-Dimensional Vectors with a Theoretical Error Bound for
// Approximate Nearest Neighbor Search", SIGMOD 2024). The same with more bits
// for each element is extended RaBitQ (Gao, Gou, Xu, Yang, Long and Wong,
// "Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors
// in Euclidean Space for Approximate Nearest Neighbor Search", SIGMOD 2025).
//
// A [Search] scans the binary codes of all rows and ranks the best of them again
// by the fine codes. What it returns are candidates: a caller ranks about three
// times as many as it wants by the vectors themselves.
//
// The arrays are the caller's, and plain: there is no index to build, a row is
// removed by its bit in a bitmap. Codes depend on the vector and the seed alone,
// and answers on codes and query, not on the machine. Nothing here does I/O,
// keeps time or starts a goroutine.
package rabitq

import (
	"math"
	"strconv"

	"github.com/engramdb/engram/internal/simd"
)

// MaxDim is the largest dimension of a vector.
const MaxDim = 4096

const (
	// wordBits: the dimension is filled up with zeros to a multiple of the
	// elements in a word of a binary code.
	wordBits = 64
	// rounds of signs and Hadamard transform. After two, one element in a vector
	// of zeros is spread evenly; four is what the authors' library does.
	rounds  = 4
	signBit = 1 << 31
)

// Rotation is a random rotation. It is immutable; any number of encoders and
// queries share it.
//
// It is four rounds of random signs and a normalised Hadamard transform, which
// takes n log n steps and no matrix (Ailon and Chazelle's fast
// Johnson-Lindenstrauss transform). Where the dimension is no power of two, the
// transform is that of the largest power below, by turns at the front and at the
// end of the vector, and a step of Kac's walk mixes the halves.
type Rotation struct {
	dim, padded int
	block       int // the length of the Hadamard transform
	set         simd.Set
	// flips is a word for each element and round, with the sign bit or 0.
	flips []uint32
}

// NewRotation returns the rotation of the seed for vectors of a dimension from 1
// to [MaxDim]. Codes of one seed mean nothing under another.
func NewRotation(dim int, seed uint64) *Rotation {
	if dim < 1 || dim > MaxDim {
		panic("rabitq: dimension " + strconv.Itoa(dim))
	}
	padded := (dim + wordBits - 1) / wordBits * wordBits
	block := wordBits
	for 2*block <= padded {
		block *= 2
	}
	r := &Rotation{dim: dim, padded: padded, block: block, set: simd.Best(), flips: make([]uint32, rounds*padded)}
	for i := 0; i < len(r.flips); i += wordBits {
		signs := splitMix(&seed)
		for j := range wordBits {
			r.flips[i+j] = uint32(signs>>j&1) * signBit
		}
	}
	return r
}

// splitMix is the generator of Steele, Lea and Flood, "Fast Splittable
// Pseudorandom Number Generators" (OOPSLA 2014). It is written out because codes
// that are kept depend on it for good.
func splitMix(state *uint64) uint64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Dim returns the dimension of the vectors.
func (r *Rotation) Dim() int { return r.dim }

// BinaryWords returns the number of words in a binary code.
func (r *Rotation) BinaryWords() int { return r.padded / wordBits }

// FineBytes returns the number of bytes in a fine code.
func (r *Rotation) FineBytes() int { return r.padded / 2 }

// steadyExponent bounds the largest element's exponent, either way, within which
// no sum of squares of a rotated vector overflows, or loses what matters of it.
const steadyExponent = 30

// steady stretches x by a power of two where its largest element is out of
// bounds, so that it is close to 1; its direction stays, to the last bit of all
// but its least elements.
func steady(x []float32) {
	largest := largestOf(x)
	_, exponent := math.Frexp(float64(largest))
	if largest == 0 || -steadyExponent <= exponent && exponent <= steadyExponent {
		return
	}
	for i, f := range x {
		x[i] = float32(math.Ldexp(float64(f), -exponent))
	}
}

// largestOf returns the largest absolute value. It compares bits, which are
// ordered as the values: a maximum of floats takes ten times as long.
func largestOf(x []float32) float32 {
	var largest uint32
	for _, f := range x {
		largest = max(largest, math.Float32bits(f)&^signBit)
	}
	return math.Float32frombits(largest)
}

// rotate sets x, of the padded dimension, to the rotated v. The length stays, but
// for what steady does to the largest and the smallest.
func (r *Rotation) rotate(x, v []float32) {
	if len(v) != r.dim {
		panic("rabitq: a vector of dimension " + strconv.Itoa(len(v)) + ", not " + strconv.Itoa(r.dim))
	}
	clear(x[copy(x, v):])
	steady(x)
	for round := range rounds {
		flipSigns(x, r.flips[round*r.padded:][:r.padded])
		switch {
		case r.block == r.padded:
			r.set.Hadamard(x)
			continue
		case round%2 == 0:
			r.set.Hadamard(x[:r.block])
		default:
			r.set.Hadamard(x[r.padded-r.block:])
		}
		kacStep(x)
	}
	if r.block != r.padded {
		for i := range x {
			x[i] *= 0.25 // the four steps of the walk have each stretched x by the root of two
		}
	}
}

func flipSigns(x []float32, flips []uint32) {
	x = x[:len(flips)]
	for i, flip := range flips {
		x[i] = math.Float32frombits(math.Float32bits(x[i]) ^ flip)
	}
}

// kacStep turns each pair of an element in the lower half and its counterpart in
// the upper half by an eighth of a circle, and stretches it by the root of two.
func kacStep(x []float32) {
	lower, upper := x[:len(x)/2], x[len(x)/2:]
	upper = upper[:len(lower)]
	for i, a := range lower {
		b := upper[i]
		lower[i], upper[i] = a+b, a-b
	}
}
