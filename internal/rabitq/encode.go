package rabitq

import (
	"math"
	"math/bits"
	"slices"
)

// Codes are the codes of rows, as arrays that the caller owns. With n rows,
// Binary has n times [Rotation.BinaryWords] words, Fine n times
// [Rotation.FineBytes] bytes, and the others have n numbers. For a dimension of
// 768 that is 492 bytes a row.
type Codes struct {
	// Binary: bit i%64 of word i/64 is set where element i of the rotated vector
	// is not negative.
	Binary []uint64
	// Ones is the number of bits set in a row of Binary.
	Ones []float32
	// BinaryScales turns what a binary code and a query have in common into the
	// cosine of their angle; it is 0 for a vector of zeros.
	BinaryScales []float32
	// Fine has elements of four bits, two in a byte, the earlier one in the lower
	// half: u is the value (u-7.5) times a step.
	Fine []uint8
	// FineScales is to Fine what BinaryScales is to Binary.
	FineScales []float32
}

// Rows returns the number of rows.
func (c *Codes) Rows() int { return len(c.Ones) }

// Slice returns the rows from..to-1, which it shares with c.
func (c *Codes) Slice(from, to int) *Codes {
	s := &Codes{Ones: c.Ones[from:to], BinaryScales: c.BinaryScales[from:to], FineScales: c.FineScales[from:to]}
	if rows := c.Rows(); rows > 0 {
		words, bytes := len(c.Binary)/rows, len(c.Fine)/rows
		s.Binary, s.Fine = c.Binary[from*words:to*words], c.Fine[from*bytes:to*bytes]
	}
	return s
}

// fits reports whether the arrays are of one number of rows of the rotation.
func (c *Codes) fits(r *Rotation) bool {
	rows := c.Rows()
	return len(c.Binary) == rows*r.BinaryWords() && len(c.Fine) == rows*r.FineBytes() &&
		len(c.BinaryScales) == rows && len(c.FineScales) == rows
}

// fineStep is the step of sixteen even levels at which the error for a Gaussian
// variable is least, in standard deviations (Max, "Quantizing for Minimum
// Distortion", 1960). The elements of a rotated vector are close to Gaussian, so
// one step serves all vectors; where they differ, the scales make up for it.
const (
	fineLevels = 16
	fineStep   = 0.3352
)

// Encoder turns vectors into codes. It is not for concurrent use; encoders that
// share a rotation may work in parallel.
type Encoder struct {
	rotation *Rotation
	rotated  []float32
}

// NewEncoder returns an encoder of codes under a rotation.
func NewEncoder(rotation *Rotation) *Encoder {
	return &Encoder{rotation, make([]float32, rotation.padded)}
}

// Append appends the codes of v as a row. Only the direction of v matters, not
// its length; its elements are finite. Of a vector of zeros the cosine with any
// query is 0.
func (e *Encoder) Append(codes *Codes, v []float32) {
	row, r := codes.Rows(), e.rotation
	codes.Binary = slices.Grow(codes.Binary, r.BinaryWords())[:(row+1)*r.BinaryWords()]
	codes.Fine = slices.Grow(codes.Fine, r.FineBytes())[:(row+1)*r.FineBytes()]
	codes.Ones = append(codes.Ones, 0)
	codes.BinaryScales = append(codes.BinaryScales, 0)
	codes.FineScales = append(codes.FineScales, 0)
	e.Replace(codes, row, v)
}

// Replace makes the codes of v those of a row that there is.
func (e *Encoder) Replace(codes *Codes, row int, v []float32) {
	r, x := e.rotation, e.rotated
	r.rotate(x, v)
	norm := math.Sqrt(float64(r.set.Dot(x, x)))
	ones, absolute := encodeBinary(codes.Binary[row*r.BinaryWords():][:r.BinaryWords()], x)
	product := encodeFine(codes.Fine[row*r.FineBytes():][:r.FineBytes()], x, norm)
	codes.Ones[row] = float32(ones)
	codes.BinaryScales[row] = quotient(norm, absolute)
	codes.FineScales[row] = quotient(norm, product)
}

// quotient is the length of a vector by its product with its code. The product
// of code and query, times this, estimates the cosine without bias (RaBitQ,
// theorem 3.2).
func quotient(norm, product float64) float32 {
	if product <= 0 {
		return 0
	}
	return float32(norm / product)
}

// encodeBinary writes the signs of x and returns how many are set, and the
// product of x and its signs, which is the sum of the absolute values.
func encodeBinary(code []uint64, x []float32) (ones int, absolute float64) {
	for i := range code {
		var word uint64
		for j, f := range (*[wordBits]float32)(x[i*wordBits:]) {
			negative := math.Float32bits(f) >> 31
			word |= uint64(negative^1) << j
			absolute += math.Abs(float64(f))
		}
		code[i] = word
		ones += bits.OnesCount64(word)
	}
	return ones, absolute
}

// encodeFine writes the elements of x in four bits and returns the product of x
// and its code.
func encodeFine(code []uint8, x []float32, norm float64) (product float64) {
	if norm == 0 {
		clear(code)
		return 0
	}
	perStep := float32(math.Sqrt(float64(len(x))) / (norm * fineStep))
	for i := range code {
		a, b := x[2*i], x[2*i+1]
		u, v := level(a, perStep, fineLevels), level(b, perStep, fineLevels)
		code[i] = u | v<<4
		product += float64((float64(u) - 7.5) * float64(a))
		product += float64((float64(v) - 7.5) * float64(b))
	}
	return product
}

// level returns on which of so many even levels, half of them below zero, x lies.
func level(x, perStep float32, levels uint8) uint8 {
	t := float32(x*perStep) + float32(levels/2)
	switch {
	case !(t > 0): // NaN too, of which the conversion would be undefined
		return 0
	case t >= float32(levels):
		return levels - 1
	}
	return uint8(t)
}
